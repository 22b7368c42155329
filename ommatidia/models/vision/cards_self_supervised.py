"""Cards of encoders trained on images alone."""

from __future__ import annotations

from ommatidia.models.vision.card import VIT_14, VIT_16, Card, hf_card, timm_card
from ommatidia.models.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD

_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)


def _dinov2(repository: str, *, width: int, depth: int, heads: int, gated: bool = False) -> Card:
    config = {
        "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, "patch_size": 14,
        "image_size": 518, "use_swiglu_ffn": gated,
    }  # fmt: skip
    # From transformers, which resamples positions as the authors do, without antialiasing; timm smooths them.
    return hf_card(
        "Dinov2Model", repository, 518, config=config, normalisation=_IMAGENET, pretraining="DINOv2, LVD-142M",
        licence="Apache-2.0", tiny={"image_size": 56}, notes="with its final norm",
    )  # fmt: skip


def _moco_v3(model: str, repository: str, published: str) -> Card:
    encoder = {
        "kind": "timm", "model": model, "image_size": 224, "args": {"num_classes": 0},
        "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "weights": {"kind": "hub", "id": repository},
    }  # fmt: skip
    source = f"{repository}: {published} of github.com/facebookresearch/moco-v3 in timm's layout"
    tiny = {"args": {"num_classes": 0, **VIT_16["args"]}, "image_size": 64}
    return Card(encoder, "MoCo v3, ImageNet-1k", source, "CC-BY-NC-4.0", "positions are fixed sines", tiny)


SELF_SUPERVISED = {
    "dinov2_l": _dinov2("facebook/dinov2-large", width=1024, depth=24, heads=16),
    "dinov2_g": _dinov2("facebook/dinov2-giant", width=1536, depth=40, heads=24, gated=True),
    "dinov3_l": timm_card(
        "vit_large_patch16_dinov3.lvd1689m", 256, pretraining="DINOv3, LVD-1689M", licence="DINOv3", tiny=VIT_16,
        resizing="multiple", notes="rotary positions",
    ),
    "mae_l": timm_card(
        "vit_large_patch16_224.mae", 224, pretraining="masked autoencoder, ImageNet-1k", licence="CC-BY-NC-4.0",
        tiny=VIT_16, notes="sees every patch: nothing is masked",
    ),
    "mae_h": timm_card(
        "vit_huge_patch14_224.mae", 224, pretraining="masked autoencoder, ImageNet-1k", licence="CC-BY-NC-4.0",
        tiny=VIT_14, notes="sees every patch: nothing is masked",
    ),
    "moco_v3_b": _moco_v3("vit_base_patch16_224", "nyu-visionx/moco-v3-vit-b", "vit-b-300ep"),
    "moco_v3_l": _moco_v3("vit_large_patch16_224", "nyu-visionx/moco-v3-vit-l", "the ViT-L"),
    "ijepa_h": hf_card(
        "IJepaModel", "facebook/ijepa_vith14_22k", 224,
        config={
            "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
            "patch_size": 14, "image_size": 224, "layer_norm_eps": 1e-6,
        },
        normalisation=_IMAGENET, pretraining="I-JEPA, ImageNet-22k", licence="CC-BY-NC-4.0", tiny={"image_size": 56},
        notes="no class token; with its final norm",
    ),
}  # fmt: skip
