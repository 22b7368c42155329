"""MM1 (McKinzie et al., 2024, arXiv 2403.09611): 144 visual tokens through a C-Abstractor; everything trains.

MM1's language model was never published. Here a decoder of its size stands for it, untrained: 24 blocks of width 3072,
2.9 billion parameters, Llama-2's tokenizer. The learning rate falls to 0 here, not to a tenth of its peak; AdamW tunes
where MM1 used AdaFactor. ``tiled`` is its fine-tuning at 1344 px: four tiles and the whole picture, 720 tokens.
"""

from __future__ import annotations

from typing import Any

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.study import encoder, shares
from ommatidia.models.language import LANGUAGES

_SIZES = {
    "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 24,
    "num_key_value_heads": 24,
}  # fmt: skip
_TILE = 672


def _3b(data: str = "data", tiled: bool = False) -> Recipe:
    """MM1-3B: DFN's ViT-H at 378 px, 144 tokens; captions, documents and text in shares of 45, 45 and 10."""
    corpora = shares(
        data,
        captions=("MM1/captions.jsonl", 45),
        documents=("MM1/interleaved.jsonl", 45),
        text=("MM1/text.jsonl", 10),
    )
    everything = ("encoders.vit", "projector", "language")
    common: dict[str, Any] = {"schedule": "cosine", "precision": "bf16", "weight_decay": 0.1}
    tiles = {"tiling": {"kind": "fixed_grid", "tile": [_TILE, _TILE], "overview": "last"}} if tiled else {}
    llama = LANGUAGES["llama2_7b"]
    return Recipe.parse(
        {
            "name": "mm1_3b",
            "model": {
                "encoders": {"vit": encoder(f"dfn_clip_h_14_378@{_TILE}" if tiled else "dfn_clip_h_14_378")},
                "projector": {"kind": "c_abstractor", "grid": [12, 12]},
                "language": {**llama, "config": llama["config"] | _SIZES, "random": True},
                "chat": "vicuna_v1",
                **tiles,
            },
            "stages": [
                {
                    "name": "pretrain", "train": dict.fromkeys(everything, 6e-5), "data": corpora, "steps": 200_000,
                    "batch": 512, "warmup": 0.01, **common,
                },
                {
                    "name": "tune", "train": dict.fromkeys(everything, 1e-5), "steps": 10_000, "batch": 256,
                    "data": shares(data, sft=("MM1/sft.json", 1)), "warmup": 0.03, **common,
                },
            ],
        }
    )  # fmt: skip


RECIPES = {"3b": _3b}
