"""Mini-Gemini (Li et al., 2024, arXiv 2403.18814): CLIP's tokens mine the finer map of a ConvNeXt-L; encoders frozen.

The released code makes CLIP's image by shrinking ConvNeXt's; here each encoder resizes the padded image itself.
"""

from __future__ import annotations

from typing import Any

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import encoder, sources


def _7b(data: str = "data") -> Recipe:
    """Mini-Gemini-7B: 576 tokens at 336 px, each mining 8 x 8 cells of a map of 768 px, before Vicuna-7B."""
    return _recipe("mini_gemini_7b", data, 768, {})


def _7b_hd(data: str = "data") -> Recipe:
    """Mini-Gemini-7B-HD: the whole image and four tiles of 336 px, 2880 tokens; one map of 1536 px for all five."""
    tiling = {
        "kind": "fixed_grid", "rows": 2, "columns": 2, "tile": [336, 336], "fit": "pad", "overview": "first",
        "whole": ["convnext"], "fill": [122, 116, 104],
    }  # fmt: skip
    return _recipe("mini_gemini_7b_hd", data, 1536, {"tiling": tiling})


RECIPES = {"7b": _7b, "7b_hd": _7b_hd}


def _recipe(name: str, data: str, size: int, tiles: dict[str, Any]) -> Recipe:
    captions = sources(data, captions=("MGM-Pretrain/mgm_pretrain.json", 1_253_000))
    dialogues = sources(data, sft=("MGM-Finetune/mgm_instruction.json", 1_500_000))
    eyes = {"fusion": 1e-3, "projector": 1e-3}
    common = {"epochs": 1, "schedule": "cosine", "warmup": 0.03, "precision": "bf16"}
    return Recipe.parse(
        {
            "name": name,
            "model": {
                "encoders": {
                    "clip": encoder("clip_l_14_336", fit="pad_first"),
                    "convnext": encoder(f"convnext_l_1024_multi@{size}", fit="pad_first"),
                },
                "fusion": "patch_mining",
                "projector": {"kind": "mlp", "depth": 2},
                "language": "vicuna_7b",
                "chat": "vicuna_v1",
                **tiles,
            },
            "stages": [
                {"name": "align", "train": eyes, "data": captions, "batch": 256, **common},
                {
                    "name": "tune", "train": dict.fromkeys((*eyes, "language"), 2e-5), "data": dialogues, "batch": 128,
                    **common,
                },
            ],
        }
    )  # fmt: skip
