"""Cards of encoders trained on images with text: CLIP and its kin."""

from __future__ import annotations

from typing import Any

from ommatidia.models.vision.card import VIT_14, VIT_16, Card, hf_card, timm_card
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD, HALF

_CONVNEXT = {"args": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}, "image_size": 64}
_CONVNEXT_L = "convnext_large_mlp.clip_laion2b_ft_soup_320"
_CONVNEXT_XXL = "convnext_xxlarge.clip_laion2b_soup"


def _clip_l_14(repository: str, native: int, size: int) -> Card:
    config = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "patch_size": 14, "image_size": native, "projection_dim": 768,
    }  # fmt: skip
    return hf_card(
        "CLIPVisionModel", repository, size, config=config, normalisation=(CLIP_MEAN, CLIP_STD), features=-2,
        pretraining="CLIP, 400 M image-text pairs (WIT)", licence="MIT (OpenAI CLIP)", tiny={"image_size": 56},
        notes="block -2, as LLaVA takes it" + (f"; weights of {native} px" if size != native else ""),
    )  # fmt: skip


def _siglip(repository: str, pretraining: str, *, notes: str = "", **fields: Any) -> Card:
    # From transformers: the weights were trained with the tanh form of GELU, and timm runs some of them with the exact.
    return hf_card(
        "SiglipVisionModel", repository, 384, normalisation=(HALF, HALF), pretraining=pretraining, licence="Apache-2.0",
        notes="with its final norm, as Cambrian takes it; features: -2 is LLaVA's" + notes, **fields,
    )  # fmt: skip


def _siglip_so400m_14(repository: str, pretraining: str) -> Card:
    config = {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "patch_size": 14, "image_size": 384,
    }  # fmt: skip
    return _siglip(
        repository, pretraining, config=config, tiny={"image_size": 118}, notes="; the last 6 pixels are not seen"
    )


def _convnext(model: str, *, notes: str = "", twin_grid: tuple[int, int] | None = None, **fields: Any) -> Card:
    tiny = {**_CONVNEXT, **({"common_grid": twin_grid} if twin_grid else {})}
    return timm_card(
        model, 1024, pretraining="CLIP, LAION-2B", licence="MIT (LAION); timm records Apache-2.0", tiny=tiny,
        notes=notes, resizing="any", **fields,
    )  # fmt: skip


LANGUAGE = {
    "clip_l_14_224": _clip_l_14("openai/clip-vit-large-patch14", 224, 224),
    "clip_l_14_336": _clip_l_14("openai/clip-vit-large-patch14-336", 336, 336),
    "clip_l_14_448": _clip_l_14("openai/clip-vit-large-patch14-336", 336, 448),
    "clip_l_14_672": _clip_l_14("openai/clip-vit-large-patch14-336", 336, 672),
    "siglip_so400m_384": _siglip_so400m_14("google/siglip-so400m-patch14-384", "SigLIP, WebLI"),
    "siglip_l_384": _siglip(
        "google/siglip-large-patch16-384", "SigLIP, WebLI", tiny={"image_size": 64},
        config={
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "patch_size": 16, "image_size": 384,
        },
    ),
    "siglip2_so400m_14_384": _siglip_so400m_14("google/siglip2-so400m-patch14-384", "SigLIP 2, WebLI"),
    "siglip2_so400m_384": timm_card(
        "vit_so400m_patch16_siglip_384.v2_webli", 384, pretraining="SigLIP 2, WebLI", licence="Apache-2.0", tiny=VIT_16
    ),
    "siglip2_so400m_512": timm_card(
        "vit_so400m_patch16_siglip_512.v2_webli", 512, pretraining="SigLIP 2, WebLI", licence="Apache-2.0", tiny=VIT_16
    ),
    "dfn_clip_l_14_224": timm_card(
        "vit_large_patch14_clip_quickgelu_224.dfn2b", 224, pretraining="CLIP, DFN-2B", licence="Apple ASCL", tiny=VIT_14
    ),
    "dfn_clip_h_14_378": timm_card(
        "vit_huge_patch14_clip_quickgelu_378.dfn5b", 378, pretraining="CLIP, DFN-5B", licence="Apple ASCL", tiny=VIT_14
    ),
    "eva_clip_g_14": timm_card(
        "eva_giant_patch14_clip_224.merged2b", 224, pretraining="CLIP, Merged-2B", licence="MIT", tiny=VIT_14
    ),
    "eva02_clip_l_336": timm_card(
        "eva02_large_patch14_clip_336.merged2b", 336, pretraining="CLIP, Merged-2B", licence="MIT", tiny=VIT_14
    ),
    "convnext_l_1024": _convnext(_CONVNEXT_L),
    "convnext_l_1024_multi": _convnext(
        _CONVNEXT_L, features=[0, 1, 2, 3], notes="all four stages on the finest grid, as Mini-Gemini takes them"
    ),
    "convnext_xxl_1024": _convnext(_CONVNEXT_XXL),
    "convnext_xxl_1024_multi": _convnext(
        _CONVNEXT_XXL, features=[0, 1, 2, 3], common_grid=[96, 96], twin_grid=(6, 8),
        notes="all four stages on one grid of 96x96, as Cambrian takes them",
    ),
    "internvit_300m_448": timm_card(
        "vit_intern300m_patch14_448.ogvl_2pt5", 448, pretraining="InternViT 2.5: distilled, then with a language model",
        licence="MIT (OpenGVLab); timm records Apache-2.0", tiny=VIT_14,
    ),
    "internvit_6b_448": Card(
        {
            "kind": "internvit", "image_size": 448, "fit": "stretch",
            "weights": {"kind": "hub", "id": "OpenGVLab/InternViT-6B-448px-V1-5"},
        },
        "InternViT 1.5: image-text contrast, then with a language model", "OpenGVLab/InternViT-6B-448px-V1-5", "MIT",
        "45 blocks, as NVLM takes it",
        {"dim": 32, "depth": 3, "heads": 2, "hidden": 48, "native": 56, "image_size": 56},
    ),
}  # fmt: skip
