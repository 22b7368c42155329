"""LLaVA-1.5 (Liu et al., 2023, arXiv 2310.03744) and LLaVA-NeXT with its tiles (Liu et al., 2024).

One CLIP-L at 336 px, block -2, before a two-layer MLP. The first stage is an image and its caption without a template,
and NeXT's sees images whole. LLaVA-1.5's cuts them square, where here they are padded as later on.
"""

from __future__ import annotations

from typing import Any

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import encoder, llava_captions, llava_dialogues, plain, sources

_COMMON: dict[str, Any] = {"epochs": 1, "schedule": "cosine", "warmup": 0.03, "precision": "bf16"}
"""What all stages share."""


def v15_7b(data: str = "data") -> Recipe:
    """LLaVA-1.5-7B: 576 visual tokens before Vicuna-7B; CLIP stays frozen."""
    return _v15("llava_v15_7b", "vicuna_7b", data)


def v15_13b(data: str = "data") -> Recipe:
    """LLaVA-1.5-13B: as 7B, before Vicuna-13B."""
    return _v15("llava_v15_13b", "vicuna_13b", data)


def next_7b(data: str = "data") -> Recipe:
    """LLaVA-NeXT (1.6) 7B: any resolution, up to 2880 visual tokens and 48 row ends; all of it trains.

    Rates are those of the public script (the announcement says 2e-5); its mixture is not all released.
    """
    model = _model("vicuna_7b", "stretch") | {"tiling": "any_resolution"}
    model["injection"] = {"kind": "inline", "row_end": True}
    dialogues = sources(
        data, sft=("LLaVA-NeXT-Data/llava_next_raw_format/llava_next_raw_format_processed.json", 738_590)
    )
    everything = {"encoders.clip": 2e-6, "projector": 1e-5, "injection": 1e-5, "language": 1e-5}
    return Recipe.parse(
        {
            "name": "llava_next_7b",
            "model": model,
            "stages": [
                {**_align(data), "tiling": "whole"},
                {"name": "tune", "train": everything, "data": dialogues, "batch": 128, **_COMMON},
            ],
        }
    )


def _align(data: str) -> dict[str, Any]:
    stage = {"name": "align", "train": {"projector": 1e-3}, "data": llava_captions(data), "batch": 256, **_COMMON}
    return {**stage, "chat": plain()}


def _model(language: str, fit: str) -> dict[str, Any]:
    return {
        "encoders": {"clip": encoder("clip_l_14_336", fit=fit)},
        "projector": {"kind": "mlp", "depth": 2},
        "language": language,
        "chat": "vicuna_v1",
    }


def _v15(name: str, language: str, data: str) -> Recipe:
    both = {"projector": 2e-5, "language": 2e-5}
    return Recipe.parse(
        {
            "name": name,
            "model": _model(language, "pad_first"),
            "stages": [
                _align(data),
                {"name": "tune", "train": both, "data": llava_dialogues(data), "batch": 128, **_COMMON},
            ],
        }
    )


RECIPES = {"v15_7b": v15_7b, "v15_13b": v15_13b, "next": next_7b}
