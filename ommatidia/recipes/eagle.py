"""Eagle-1 (Shi et al., 2024, arXiv 2408.15998): four or five encoders at 1024 px, joined in the channels.

The paper's intent: CLIP sees 448 px, and each expert is pre-aligned with a frozen language model before the mixture is
trained. ``released=True`` is what the public code computes: CLIP at 336 px, and no pre-alignment. Not published:
learning rates of the pre-alignment (here those of the last stage, the projector's that of the first), and what
X4-8B-Plus was trained with (here rates and batches of the 7B models, and the data of the public script for Yi-34B).
"""

from __future__ import annotations

from typing import Any

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import llava_captions, plain, sources

_X5 = ("clip", "convnext", "sam", "eva02_det", "pix2struct")
_X4 = ("clip", "convnext", "eva02_det", "pix2struct")
_CATALOG = {
    "convnext": "eagle_convnext_xxl",
    "sam": "eagle_sam_l",
    "eva02_det": "eagle_eva02_l_det",
    "pix2struct": "eagle_pix2struct_l",
}
_BEGINS = {"vicuna_7b": "<s>", "vicuna_13b": "<s>", "llama3_8b": "<|begin_of_text|>", "yi_34b": ""}
"""The mark that a tokenizer sets before a text that no template begins."""
_SIDE = 32
"""Rows and columns of the common grid."""


def x5_7b(data: str = "data", released: bool = False) -> Recipe:
    """Eagle-X5-7B: CLIP, ConvNeXt, SAM, EVA-02 and Pix2Struct before Vicuna-7B."""
    return _recipe("eagle_x5_7b", _X5, "vicuna_7b", "vicuna_v1", data, released)


def x4_7b(data: str = "data", released: bool = False) -> Recipe:
    """Eagle-X4-7B: as X5 without SAM."""
    return _recipe("eagle_x4_7b", _X4, "vicuna_7b", "vicuna_v1", data, released)


def x5_13b(data: str = "data", released: bool = False) -> Recipe:
    """Eagle-X5-13B: five encoders before Vicuna-13B."""
    return _recipe("eagle_x5_13b", _X5, "vicuna_13b", "vicuna_v1", data, released)


def x4_8b_plus(data: str = "data", released: bool = False) -> Recipe:
    """Eagle-X4-8B-Plus: four encoders before Llama-3-8B, on Cambrian's data."""
    return _recipe("eagle_x4_8b_plus", _X4, "llama3_8b", "llama3_two_bos", data, released, plus=True)


def x5_34b_plus(data: str = "data", released: bool = False) -> Recipe:
    """Eagle-X5-34B-Plus: five encoders before Yi-34B, on Cambrian's data, with batches of 1024."""
    return _recipe("eagle_x5_34b_plus", _X5, "yi_34b", "yi_34b_chatml_direct", data, released, plus=True, batch=1024)


def _recipe(
    name: str,
    experts: tuple[str, ...],
    language: str,
    chat: str,
    data: str,
    released: bool,
    *,
    plus: bool = False,
    batch: int | None = None,
) -> Recipe:
    catalog = {"clip": "eagle_clip_336" if released else "eagle_clip_448", **_CATALOG}
    return Recipe.parse(
        {
            "name": name,
            "model": {
                "encoders": {expert: catalog[expert] for expert in experts},
                "fusion": {
                    "kind": "channel_concat",
                    "grid": [_SIDE, _SIDE],
                    "resample": {"kind": "bilinear", "align_corners": True},
                },
                "projector": {"kind": "mlp", "depth": 2},
                "language": language,
                "chat": chat,
            },
            "stages": _stages(data, released, plain(_BEGINS[language]), plus=plus, batch=batch),
        }
    )


def _stages(data: str, released: bool, form: dict[str, Any], *, plus: bool, batch: int | None) -> list[dict[str, Any]]:
    captions, dialogues = llava_captions(data), sources(data, sft=("Eagle/eagle-1-sft-1_8M.json", 1_809_000))
    if plus:
        captions = sources(data, captions=("Cambrian-Alignment/alignment_2.5m.jsonl", 2_500_000))
        dialogues = sources(data, sft=("Cambrian-10M/Cambrian7M_withsystemprompt.jsonl", 7_000_000))
    # None of the released configurations of the engine clips gradients.
    common = {"epochs": 1, "schedule": "cosine", "warmup": 0.03, "clip": None, "precision": "bf16", "longest": 2048}
    first, last = 2e-4 if batch else 1e-3, 2e-5
    everything = {"encoders.*": last, "fusion": last, "projector": last, "language": last}
    stages: list[dict[str, Any]] = [
        {
            "name": "align",
            "train": {"projector": first},
            "data": captions,
            "batch": batch or 256,
            **common,
            "chat": form,
        },
        {"name": "tune", "train": everything, "data": dialogues, "batch": batch or 128, **common},
    ]
    if not released:
        own = {"encoders.*": last, "projector": first}
        pre_align = {"name": "pre-align", "scope": "expert", "train": own, "data": dialogues, "batch": 128, **common}
        stages.insert(0, pre_align)
    return stages
