"""VILA's studies (arXiv 2312.07533, section 3): what trains when, what is pre-trained on, and text-only tuning.

Llama-2-7B and CLIP-L at 224 px, 256 visual tokens. The paper does not say how deep its transformer projector is: here a
Perceiver of as many queries stands for it. ``mmc4_pairs`` is wanted as a file of its own: the same images, each with
its sentence alone.
"""

from __future__ import annotations

from typing import Any

from ommatidia.lab.search import Search
from ommatidia.lab.search.study import encoder, listed, sources

ASKED = ("textvqa", "coco_captions", "flickr30k")
"""Those of the paper's four that omma can ask; the other is OKVQA."""
_FILES: dict[str, tuple[str, int | None]] = {
    "mmc4": ("VILA/mmc4_core.jsonl", 6_250_000),
    "mmc4_pairs": ("VILA/mmc4_pairs.jsonl", 25_000_000),
    "coyo": ("VILA/coyo.jsonl", 25_000_000),
    "visual": ("VILA/sft_visual.json", None),
    "text": ("VILA/flan_text.json", 1_000_000),
}
_TRANSFORMER = {"kind": "perceiver", "queries": 256}


def freezing(data: str = "data") -> Search:
    """Whether the language model trains in pre-training and in tuning, before a transformer or a linear projector."""
    designs = {
        "never, transformer": _design(data, projector=_TRANSFORMER, pretrained=False, tuned=False),
        "tuned, transformer": _design(data, projector=_TRANSFORMER, pretrained=False),
        "both, transformer": _design(data, projector=_TRANSFORMER),
        "both, linear": _design(data),
    }
    return listed("vila_freezing", designs, benchmarks=ASKED)


def corpora(data: str = "data") -> Search:
    """Pre-training on pairs, on documents torn into pairs, on documents, on documents and pairs."""
    kinds = (("coyo",), ("mmc4_pairs",), ("mmc4",), ("mmc4", "coyo"))
    return listed("vila_corpora", {" + ".join(files): _design(data, files) for files in kinds}, benchmarks=ASKED)


def text(data: str = "data") -> Search:
    """Tuning with and without a million text-only instructions, after documents, and after documents and pairs."""
    designs = {
        f"{' + '.join(files)}, {' + '.join(last)}": _design(data, files, last)
        for files in (("mmc4",), ("mmc4", "coyo"))
        for last in (("visual",), ("visual", "text"))
    }
    return listed("vila_text", designs, benchmarks=ASKED)


def _design(
    data: str,
    files: tuple[str, ...] = ("mmc4",),
    last: tuple[str, ...] = ("visual",),
    *,
    projector: str | dict[str, Any] = "linear",
    pretrained: bool = True,
    tuned: bool = True,
) -> dict[str, Any]:
    def stage(name: str, rate: float, batch: int, mixture: dict[str, Any], language: bool) -> dict[str, Any]:
        train = {"projector": rate} | ({"language": rate} if language else {})
        common = {"epochs": 1, "schedule": "cosine", "warmup": 0.03, "precision": "bf16", "longest": 4096}
        return {"name": name, "train": train, "data": mixture, "batch": batch, **common}

    def mix(names: tuple[str, ...]) -> dict[str, Any]:
        return sources(data, **{name: _FILES[name] for name in names})

    start = sources(data, captions=("LLaVA-CC3M-Pretrain-595K/chat.json", 595_000))
    return {
        "model": {
            "encoders": {"clip": encoder("clip_l_14_224", fit="pad_first")},
            "projector": projector,
            "language": "llama2_7b",
            "chat": "vicuna_v1",
        },
        "stages": [
            stage("align", 1e-3, 256, start, language=False),
            stage("pretrain", 5e-5, 1024, mix(files), language=pretrained),
            stage("tune", 2e-5, 128, mix(last), language=tuned),
        ],
    }
