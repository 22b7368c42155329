"""MM1 (McKinzie et al., 2024, arXiv 2403.09611): 144 visual tokens through a C-Abstractor; everything trains.

MM1's language models were never published, nor their shapes. Decoders of their sizes stand for them, untrained, with
Llama-2's tokenizer: 1.3, 2.9, 6.7 (Llama-2-7B's shape) and 32.5 billion parameters. ``tiled`` is its fine-tuning at
1344 px: four tiles and the whole image, 720 tokens.
"""

from __future__ import annotations

from typing import Any

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import encoder, shares
from ommatidia.models.language import LANGUAGES

_SHAPES: dict[str, tuple[int, int, int, int]] = {
    "1b": (2048, 5504, 24, 16),
    "3b": (3072, 8192, 24, 24),
    "7b": (4096, 11008, 32, 32),
    "30b": (6656, 17920, 60, 52),
}
"""Width, hidden width, blocks and heads."""
_RATES = {"1b": 8.6e-5, "3b": 6e-5, "7b": 4e-5, "30b": 2e-5}
"""The paper's rates; that of 1b by its law, exp(-0.4214 ln N - 0.5535)."""
_TILE = 672


def _3b(data: str = "data", tiled: bool = False) -> Recipe:
    """MM1-3B: DFN's ViT-H at 378 px, 144 tokens; captions, documents and text in shares of 45, 45 and 10."""
    return recipe("3b", data, tiled=tiled)


def _7b(data: str = "data", tiled: bool = False) -> Recipe:
    """MM1-7B: as 3B, with the rate of its size."""
    return recipe("7b", data, tiled=tiled)


def _30b(data: str = "data", tiled: bool = False) -> Recipe:
    """MM1-30B: as 3B, with the rate of its size."""
    return recipe("30b", data, tiled=tiled)


RECIPES = {"3b": _3b, "7b": _7b, "30b": _30b}


def recipe(
    size: str,
    data: str,
    *,
    tiled: bool = False,
    look: str = "dfn_clip_h_14_378",
    projector: dict[str, Any] | None = None,
    ratio: tuple[float, float, float] = (45, 45, 10),
) -> Recipe:
    """A design of MM1: size of its decoder, encoder, projector, and shares of captions, documents and text."""
    if size not in _SHAPES:
        raise ConfigError(unknown("size of MM1", size, _SHAPES))
    width, hidden, blocks, heads = _SHAPES[size]
    shape = {"hidden_size": width, "intermediate_size": hidden, "num_hidden_layers": blocks}
    shape |= {"num_attention_heads": heads, "num_key_value_heads": heads}
    files = ("MM1/captions.jsonl", "MM1/interleaved.jsonl", "MM1/text.jsonl")
    named = zip(("captions", "documents", "text"), zip(files, ratio, strict=True), strict=True)
    corpora = shares(data, **{name: one for name, one in named if one[1]})
    everything = ("encoders.vit", "projector", "language")
    common: dict[str, Any] = {"schedule": "cosine", "final_rate": 0.1, "precision": "bf16"}
    tiles = {"tiling": {"kind": "fixed_grid", "tile": [_TILE, _TILE], "overview": "last"}} if tiled else {}
    llama = LANGUAGES["llama2_7b"]
    return Recipe.parse(
        {
            "name": f"mm1_{size}",
            "model": {
                "encoders": {"vit": encoder(f"{look}@{_TILE}" if tiled else look)},
                "projector": projector or {"kind": "c_abstractor", "grid": [12, 12]},
                "language": {**llama, "config": llama["config"] | shape, "random": True},
                "chat": "vicuna_v1",
                **tiles,
            },
            "stages": [
                {
                    "name": "pretrain", "train": dict.fromkeys(everything, _RATES[size]), "data": corpora,
                    "steps": 200_000, "batch": 512, "warmup": 0.01, "weight_decay": 0.1, "longest": 4096, **common,
                    **({"tiling": {"kind": "whole"}, "encoders": {"vit": encoder(look)}} if tiled else {}),
                },
                {
                    "name": "tune", "train": dict.fromkeys(everything, 1e-5), "steps": 10_000, "batch": 256,
                    "data": shares(data, sft=("MM1/sft.json", 1)), "warmup": 0.03, "optimizer": "adafactor",
                    "longest": 2048, **common,
                },
            ],
        }
    )  # fmt: skip
