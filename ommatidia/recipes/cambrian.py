"""Cambrian-1 (Tong et al., 2024, arXiv 2406.16860): four frozen encoders read by the Spatial Vision Aggregator.

The models are those that were released: DINOv2 is the giant at 378 px (the paper says the large one at 518), the
global context is the first encoder's mean, and 34B looks again every seven blocks (the paper: nine). The last stage
learns at the paper's rate (the scripts of 8B and 13B say 4e-5); the first one's 1e-4 is read as that of the
aggregator's layers, beside 1e-3 for adapters, projector and row end, as in the scripts.
"""

from __future__ import annotations

from typing import Any

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import encoder, sources

_ENCODERS = {
    "siglip": "siglip_so400m_384",
    "clip": "clip_l_14_336",
    "dinov2": "dinov2_g@378",
    "convnext": "convnext_xxl_1024_multi",
}
_SIDES = {"siglip": 24, "clip": 24, "dinov2": 24, "convnext": 96}
"""Rows and columns of each encoder's map: windows of 1, 1, 1 and 4 x 4 cells."""
_LAYERS = {"8b": (10, 3), "13b": (10, 4), "34b": (9, 7)}
"""How many layers stand inside the decoder, and how many blocks apart."""


def _8b(data: str = "data") -> Recipe:
    """Cambrian-1-8B: before Llama-3-8B, 10 layers of the aggregator inside it."""
    return _recipe("8b", "llama3_8b", "cambrian_llama3", data)


def _13b(data: str = "data") -> Recipe:
    """Cambrian-1-13B: before Vicuna-13B, 10 layers of the aggregator inside it."""
    return _recipe("13b", "vicuna_13b", "vicuna_v1", data)


def _34b(data: str = "data") -> Recipe:
    """Cambrian-1-34B: before Yi-34B, 9 layers of the aggregator inside it."""
    return _recipe("34b", "yi_34b", "cambrian_chatml", data)


RECIPES = {"8b": _8b, "13b": _13b, "34b": _34b}


def _recipe(size: str, language: str, chat: str, data: str) -> Recipe:
    count, stride = _LAYERS[size]
    return Recipe.parse(
        {
            "name": f"cambrian_{size}",
            "model": {
                "encoders": {name: encoder(entry, fit="pad_first") for name, entry in _ENCODERS.items()},
                "tiling": "unpad",
                "fusion": {"kind": "sva", "side": 24, "sides": _SIDES},
                "projector": {"kind": "mlp", "depth": 2},
                "injection": {"kind": "deep_sva", "row_end": True, "count": count, "start": 0, "stride": stride},
                "language": language,
                "chat": chat,
            },
            "stages": _stages(data, batch=1024 if size == "34b" else 512),
        }
    )


def _stages(data: str, *, batch: int) -> list[dict[str, Any]]:
    captions = sources(data, captions=("Cambrian-Alignment/alignment_2.5m.jsonl", 2_500_000))
    dialogues = sources(data, sft=("Cambrian-10M/Cambrian7M_withsystemprompt.jsonl", 7_000_000))
    new = {
        "fusion": 1e-4, "fusion:adapters": 1e-3, "projector": 1e-3, "injection": 1e-4, "injection:row_end_E": 1e-3,
    }  # fmt: skip
    rest = dict.fromkeys(("fusion", "projector", "injection", "language"), 2e-5)
    common = {"epochs": 1, "schedule": "cosine", "precision": "bf16", "frozen_precision": "bf16", "longest": 2048}
    return [
        {"name": "align", "train": new, "data": captions, "batch": 512, "warmup": 0.06, **common},
        {"name": "tune", "train": rest, "data": dialogues, "batch": batch, "warmup": 0.03, **common},
    ]
