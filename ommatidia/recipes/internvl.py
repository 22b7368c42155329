"""InternVL 1.5 (Chen et al., 2024, arXiv 2404.16821): InternViT-6B on up to twelve tiles of 448 px and a thumbnail.

The shares of its data are published, its files are not: one file a stage here. No marks stand around an image. Drop
path in the encoder (0.2 and 0.4) is left out: a trunk always runs in evaluation mode here.
"""

from __future__ import annotations

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import encoder, sources


def v15_26b(data: str = "data") -> Recipe:
    """InternVL-Chat-1.5: up to 13 views of 256 tokens before InternLM2-20B; the encoder trains from the start."""
    eyes = {"encoders.internvit": 1e-5, "projector": 1e-5}
    common = {"epochs": 1, "schedule": "cosine", "weight_decay": 0.05, "precision": "bf16"}
    first, last = (
        sources(data, align=("InternVL/pretrain.jsonl", None)),
        sources(data, tune=("InternVL/sft.jsonl", None)),
    )
    return Recipe.parse(
        {
            "name": "internvl_v15_26b",
            "model": {
                "encoders": {"internvit": encoder("internvit_6b_448")},
                "tiling": {"kind": "dynamic", "max_tiles": 12},
                "projector": "pixel_shuffle_mlp",
                "language": "internlm2_20b",
                "chat": "chatml",
            },
            "stages": [
                {"name": "align", "train": eyes, "data": first, "batch": 2048, "warmup": 0.03, **common},
                {
                    "name": "tune", "train": dict.fromkeys((*eyes, "language"), 2e-5), "data": last, "batch": 1024,
                    "warmup": 0.03, **common,
                },
            ],
        }
    )  # fmt: skip
