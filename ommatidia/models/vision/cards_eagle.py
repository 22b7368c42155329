"""Encoders of Eagle's mixtures (arXiv 2408.15998) as entries of the catalog.

Two of each: as pre-trained, with the pixels its own training saw, and ``eagle_*``, as Eagle's checkpoints run it, where
all five see one tensor of 1024 px normalised for CLIP. What an Eagle checkpoint holds is loaded over these weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ommatidia.models.vision.card import Card
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD

_SEEN: dict[str, Any] = {
    "image_size": 1024, "fit": "pad_first", "interpolation": "bicubic", "mean": CLIP_MEAN, "std": CLIP_STD,
}  # fmt: skip
_CLIP = {"kind": "hub_file", "id": "openai/clip-vit-large-patch14-336", "file": "pytorch_model.bin"}
_CONVNEXT = "convnext_xxlarge.clip_laion2b_soup"
_SAM = {
    "kind": "hub_file", "id": "facebook/sam-vit-large", "file": "model.safetensors", "prefix": "vision_encoder.",
}  # fmt: skip
_SAM_H = {**_SAM, "id": "facebook/sam-vit-huge"}
_HUGE = {"width": 1280, "depth": 32, "hidden": 5120, "global_blocks": [7, 15, 23, 31]}
_EVA02 = {
    "kind": "hub_file", "id": "Yuxin-CV/EVA-02", "file": "eva02/det/eva02_L_coco_det_sys_o365.pth",
    "prefix": "backbone.net.",
}  # fmt: skip
_PIX2STRUCT = {
    "kind": "hub_file", "id": "google/pix2struct-large", "file": "pytorch_model.bin", "prefix": "encoder.",
}  # fmt: skip

_TINY: dict[str, dict[str, Any]] = {
    "clip": {
        "width": 32, "depth": 3, "heads": 2, "hidden": 48, "patch": 8, "pretrained_size": 32, "image_size": 48,
        "input_size": 40,
    },
    "timm": {"args": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}, "image_size": 64},
    "sam": {
        "width": 32, "depth": 3, "heads": 2, "hidden": 48, "patch": 8, "window": 2, "global_blocks": [1],
        "pretrained_size": 32, "end_dim": 8, "image_size": 48,
    },
    "eva02_det": {
        "width": 32, "depth": 3, "heads": 2, "patch": 8, "window": 2, "global_blocks": [1], "pretrained_size": 32,
        "image_size": 48,
    },
    "pix2struct": {
        "width": 32, "depth": 3, "heads": 2, "hidden": 48, "patch": 8, "max_patches": 20, "positions": 16,
        "image_size": 48,
    },
}  # fmt: skip

_ORIGIN: dict[str, tuple[str, str, str]] = {
    "clip": ("CLIP, 400 M image-text pairs (WIT)", "openai/clip-vit-large-patch14-336", "MIT (OpenAI CLIP)"),
    "timm": ("CLIP, LAION-2B", f"timm {_CONVNEXT}", "Apache-2.0 (timm)"),
    "sam": ("Segment Anything, SA-1B", "facebook/sam-vit-large", "Apache-2.0"),
    "eva02_det": (
        "EVA-02 (masked images), then object detection: Objects365, COCO",
        "Yuxin-CV/EVA-02 eva02_L_coco_det_sys_o365",
        "MIT",
    ),
    "pix2struct": ("Pix2Struct: screenshots parsed to HTML", "google/pix2struct-large", "Apache-2.0"),
}


def _card(kind: str, weights: Mapping[str, Any], notes: str, *, source: str | None = None, **fields: Any) -> Card:
    pretraining, usual, licence = _ORIGIN[kind]
    encoder = {"kind": kind, "weights": dict(weights), **fields}
    return Card(
        encoder, pretraining, source or usual, licence, notes, _TINY[kind],
        "interpolated" if kind in ("sam", "eva02_det") else "any",
    )  # fmt: skip


EAGLE: Mapping[str, Card] = MappingProxyType({
    "eva02_l_det": _card("eva02_det", _EVA02, "the detector's backbone; no final norm", image_size=1024),
    "pix2struct_l": _card("pix2struct", _PIX2STRUCT, "pre-trained, not tuned for questions", image_size=1024),
    "sam_l": _card("sam", _SAM, "with SAM's neck: 256 channels at stride 16; any image size", image_size=1024),
    "sam_l_raw": _card("sam", _SAM, "last block before the neck: 1024 channels", image_size=1024, features=-1),
    "sam_h_raw": _card(
        "sam", _SAM_H, "last block before the neck: 1280 channels, as Cambrian-1 takes it", source=_SAM_H["id"],
        image_size=1024, features=-1, **_HUGE,
    ),
    "eagle_clip_448": _card("clip", _CLIP, "448 px inside, as Eagle's paper says", input_size=448, **_SEEN),
    "eagle_clip_336": _card("clip", _CLIP, "336 px inside, as Eagle's released code computes", input_size=336, **_SEEN),
    "eagle_convnext_xxl": _card("timm", {"kind": "hub"}, "the last stage", model=_CONVNEXT, **_SEEN),
    "eagle_sam_l": _card(
        "sam", _SAM, "a fresh 1x1 neck, 2x2 positions folded into channels", end="short", unshuffle=2, **_SEEN
    ),
    "eagle_eva02_l_det": _card("eva02_det", _EVA02, "64x64, which Eagle brings to 32x32", **_SEEN),
    "eagle_pix2struct_l": _card("pix2struct", _PIX2STRUCT, "45x45, which Eagle brings to 32x32", **_SEEN),
})  # fmt: skip
"""By catalog name."""
