"""VILA (Lin et al., 2023, arXiv 2312.07533): a linear projector, and a language model that learns in pre-training.

The projector is the paper's one layer (the released scripts have two), the rates and batches are the scripts'.
Interleaved documents are wanted in LLaVA's format: the images of a document where they stand in its text.
"""

from __future__ import annotations

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import encoder, sources


def _7b(data: str = "data") -> Recipe:
    """VILA-7B: CLIP-L at 336 px, one linear layer, Llama-2-7B; documents and captions, then dialogues and text."""
    both = {"projector": 5e-5, "language": 5e-5}
    corpora = sources(data, mmc4=("VILA/mmc4_core.jsonl", 6_250_000), coyo=("VILA/coyo.jsonl", 25_000_000))
    dialogues = sources(data, sft=("VILA/sft_visual.json", None), text=("VILA/flan_text.json", 1_000_000))
    start = sources(data, captions=("LLaVA-CC3M-Pretrain-595K/chat.json", 595_000))
    common = {"epochs": 1, "schedule": "cosine", "warmup": 0.03, "precision": "bf16", "longest": 4096}
    return Recipe.parse(
        {
            "name": "vila_7b",
            "model": {
                "encoders": {"clip": encoder("clip_l_14_336", fit="pad_first")},
                "projector": "linear",
                "language": "llama2_7b",
                "chat": "vicuna_v1",
            },
            "stages": [
                {"name": "align", "train": {"projector": 1e-3}, "data": start, "batch": 256, **common},
                {"name": "pretrain", "train": both, "data": corpora, "batch": 1024, **common},
                {"name": "tune", "train": dict.fromkeys(both, 2e-5), "data": dialogues, "batch": 128, **common},
            ],
        }
    )


RECIPES = {"7b": _7b}
