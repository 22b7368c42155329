"""The quickstart: Eagle's method at laptop size, on real pre-trained experts, from nothing to a report in minutes.

A small language model is first trained on text alone. Each expert is then pre-aligned with it frozen (its trunk frozen too,
so that features are stored; what learns is its neck and its own projector). A mixture aligns a new projector, then
necks, projector and language model are tuned together. A round robin adds experts while that helps by more than noise.
"""

from __future__ import annotations

from typing import Any

from ommatidia.lab.benchmarks import BENCHMARKS
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Search

EXPERTS: dict[str, dict[str, Any]] = {
    "lite0": {"name": "efficientnet_lite0", "size": 128},
}


def _encoder(name: str, size: int, *, dim: int) -> dict[str, Any]:
    from ommatidia.models.vision.catalog import lookup

    return {**lookup(f"{name}@{size}"), "neck": {"kind": "linear", "dim": dim}}


def pool() -> dict[str, dict[str, Any]]:
    """The experts to choose from, two of them at two resolutions."""
    return {
        "lite0": _encoder("efficientnet_lite0", 128, dim=64),
        "lite2": _encoder("efficientnet_lite2", 128, dim=64),
        "craft": _encoder("craft", 128, dim=32),
        "craft_64": _encoder("craft", 64, dim=64),
        "lite0_64": _encoder("efficientnet_lite0", 64, dim=128),
        "vit": _encoder("vit_tiny_untrained", 128, dim=64),
        "patches": _encoder("patches", 128, dim=64),
    }


def _mixture(tasks: dict[str, int], *, split: str = "train") -> dict[str, Any]:
    sources: dict[str, Any] = {}
    for task, pictures in tasks.items():
        kind = task if task == "easy_vqa" else f"drawn_{task}"
        sources[task] = {"source": {"kind": kind, "split": split, "pictures": pictures, "per_picture": 4}}
    return {"sources": sources}


TASKS = {
    "words": 400,
    "numbers": 400,
    "charts": 400,
    "counts": 400,
    "relations": 400,
    "attributes": 400,
    "easy_vqa": 400,
}


def design(seed: int = 0) -> Recipe:
    """One design of the space: EfficientNet-Lite0 and CRAFT joined by channel concatenation."""
    experts = pool()
    data = _mixture(TASKS)
    text = {"sources": {"scenes": {"source": {"kind": "described_scenes", "pictures": 20000, "per_picture": 4}}}}
    common = {"batch": 128, "micro_batch": 64, "precision": "fp32", "warmup": 0.1}
    return Recipe.parse(
        {
            "name": "quickstart",
            "model": {
                "encoders": {"lite0": experts["lite0"], "craft": experts["craft"]},
                "fusion": {"kind": "channel_concat", "grid": [4, 4], "resample": "unshuffle"},
                "projector": {"kind": "mlp"},
                "language": {"kind": "scratch", "width": 128, "layers": 3, "heads": 4},
                "chat": "compact",
            },
            "stages": [
                {
                    "name": "language",
                    "scope": "language",
                    "train": {"language": 2e-3},
                    "data": text,
                    "steps": 250,
                    "seed": 0,
                    **common,
                },
                {
                    "name": "pre-align",
                    "scope": "expert",
                    "train": {"encoders.*:neck": 2e-3, "projector": 2e-3},
                    "data": data,
                    "steps": 30,
                    "seed": 0,
                    **common,
                },
                {"name": "align", "train": {"projector": 2e-3}, "data": data, "steps": 10, **common},
                {
                    "name": "tune",
                    "train": {"encoders.*:neck": 1e-3, "projector": 1e-3, "language": 1e-3},
                    "data": data,
                    "steps": 40,
                    **common,
                },
            ],
            "benchmarks": [BENCHMARKS[name] for name in TASKS],
            "seed": seed,
        }
    )


def search() -> Search:
    """The search that `make quickstart` runs."""
    return Search.parse(
        {
            "name": "quickstart",
            "strategy": {
                "kind": "round_robin",
                "recipe": design().to_dict(),
                "pool": pool(),
                "seeds": [0, 1],
                "variants": {
                    "sequence append": {
                        "model.fusion": {"kind": "sequence_append", "grid": [4, 4], "resample": "unshuffle"}
                    }
                },
            },
        }
    )
