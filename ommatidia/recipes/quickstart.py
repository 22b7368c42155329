"""The quickstart: Eagle's method at laptop size, on real pre-trained experts, from nothing to a report in minutes.

A small language model is trained on text alone. Each expert is then pre-aligned with it frozen (the trunk stays frozen
too, so its features are stored; what learns is its neck and its own projector). A mixture aligns a new projector, then
necks, projector and language model are tuned together. A round robin adds experts while a fresh seed confirms that they
add something.
"""

from __future__ import annotations

from typing import Any

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Search
from ommatidia.models.vision.catalog import lookup

TASKS = ("shapes", "digits", "lengths", "places")
"""Questions of three groups; each has a benchmark of the same name, with held-out fonts, colours and layouts."""


def expert(name: str, *, dim: int) -> dict[str, Any]:
    """A catalog encoder with a linear neck to ``dim`` channels for each place of its grid."""
    return {**lookup(name), "neck": {"kind": "linear", "dim": dim}}


def pool() -> dict[str, dict[str, Any]]:
    """The experts to choose from: two classifiers, one of them at two resolutions, a text detector, two controls."""
    return {
        "lite0": expert("efficientnet_lite0@128", dim=128),
        "lite0_64": expert("efficientnet_lite0@64", dim=128),
        "lite2": expert("efficientnet_lite2@128", dim=128),
        "craft": expert("craft@64", dim=32),
        "vit": expert("vit_tiny_untrained@128", dim=128),
        "patches": expert("patches@128", dim=128),
    }


def training_data(pictures: int) -> dict[str, Any]:
    """The train splits of the quickstart's tasks, every record once an epoch."""
    sources = {}
    for task in TASKS:
        source = {**BENCHMARKS[task]["source"], "split": "train", "pictures": pictures}
        sources[task] = {"source": source}
    return {"sources": sources}


def joined(kind: str) -> dict[str, Any]:
    """A fusion on a common grid of 2 x 2 places; finer grids are folded into channels, so nothing is thrown away."""
    return {"kind": kind, "grid": [2, 2], "resample": "unshuffle"}


def design(seed: int = 0) -> Recipe:
    """One design of the quickstart's space: EfficientNet-Lite0 and CRAFT, joined by channel concatenation."""
    experts = pool()
    scenes = {"kind": "described_scenes", "pictures": 6000, "tasks": ["words", "numbers", "relations", "easy_vqa"]}
    text = {"sources": {"scenes": {"source": scenes}}}
    seen = training_data(192)
    visual = {"encoders.*:neck": 3e-3, "projector": 3e-3, "fusion": 3e-3}
    # The two halves of a batch are of like lengths: a fifth of all positions would be padding otherwise.
    steps = {"batch": 32, "micro_batch": 16, "warmup": 0.1}
    return Recipe.parse(
        {
            "name": "quickstart",
            "model": {
                "encoders": {name: experts[name] for name in ("lite0", "craft")},
                "fusion": joined("channel_concat"),
                "projector": "linear",
                "language": {"kind": "scratch", "width": 128, "layers": 2, "heads": 4},
                "chat": "compact",
            },
            "stages": [
                {"name": "language", "scope": "language", "train": {"language": 3e-3}, "data": text, "steps": 300}
                | {"batch": 32, "warmup": 0.1, "seed": 0},
                {"name": "pre-align", "scope": "expert", "train": visual, "data": seen, "steps": 75, "seed": 0} | steps,
                {"name": "align", "train": {"projector": 3e-3, "fusion": 3e-3}, "data": seen, "steps": 15} | steps,
                {"name": "tune", "train": visual | {"language": 1.5e-3}, "data": seen, "steps": 96} | steps,
            ],
            "benchmarks": [BENCHMARKS[name] for name in TASKS],
            "seed": seed,
            "eval_batch": 240,
            "threads": 1,  # several nodes at once, a core each
        }
    )


def search() -> Search:
    """What ``make quickstart`` runs: a round robin over the pool, both fusions, a fresh seed to confirm and compare."""
    return Search.parse(
        {
            "name": "quickstart",
            "strategy": {
                "kind": "round_robin",
                "recipe": design().to_dict(),
                "pool": pool(),
                "variants": {"sequence append": {"model.fusion": joined("sequence_append")}},
                "max_experts": 3,
                "finalists": 2,
                "seeds": [0, 1],
                "contenders": 1,  # with a single fresh seed more would cost runs and find no more
            },
            "analyses": ["audit", "ablation"],
            "jobs": 4,
        }
    )


PLAIN_TALK: dict[str, Any] = {"kind": "llava_json", "package": "ommatidia.data", "path": "plain_talk.jsonl"}
"""Everyday questions with SmolLM2-135M-Instruct's own answers; see ``ommatidia/data/plain_talk.md``."""


def smollm2(experts: str = "lite0_64,lite0", seed: int = 0) -> Recipe:
    """A mixture of the quickstart's experts in front of SmolLM2-135M-Instruct: pre-align, align, tune; then chat.

    Only ``tune`` changes the language model, so there it also rehearses text, as in VILA's joint fine-tuning
    (2312.07533, section 3.3).
    """
    chosen = pool()
    seen = training_data(256)
    for scenes in ("attributes", "counts"):
        source = {"kind": "scene_captions", "scenes": scenes, "pictures": 400}
        seen["sources"][f"captions_{scenes}"] = {"source": source}
    both = {"sources": {**seen["sources"], "plain_talk": {"source": PLAIN_TALK}}}
    # Texts are longer than questions about images: one behind another in a row they waste nothing on padding.
    packed = {"packing": {"tokens": 1024}}
    common = {"data": seen, "batch": 32, "warmup": 0.1, "engine": packed}
    visual = {"encoders.*:neck": 1e-3, "projector": 1e-3}
    names = [name.strip() for name in experts.split(",")]
    for name in names:
        if name not in chosen:
            raise ConfigError(f"experts: {unknown('expert', name, chosen)}")
    encoders = {name: chosen[name] for name in names}
    return Recipe.parse(
        {
            "name": "smollm2",
            "model": {
                "encoders": encoders,
                "fusion": joined("channel_concat") if len(encoders) > 1 else joined("none"),
                "projector": "mlp",
                "language": "smollm2_135m",
                "chat": "smollm2_brief",
            },
            "stages": [
                {"name": "pre-align", "scope": "expert", "train": visual, "steps": 20, "seed": 0} | common,
                {"name": "align", "train": {"projector": 1e-3}, "steps": 10} | common,
                {"name": "tune", "train": visual | {"language": 5e-5}, "steps": 80} | common | {"data": both},
            ],
            "benchmarks": [BENCHMARKS[name] for name in (*TASKS, "plain_questions")],
            "seed": seed,
            "eval_batch": 48,
            "threads": 2,
        }
    )


def smollm2_untrained() -> Recipe:
    """SmolLM2 as it comes, without eyes or training: its text ability before."""
    return Recipe.parse(
        {
            "name": "smollm2_untrained",
            "model": {"language": "smollm2_135m", "chat": "smollm2_brief"},
            "stages": [],
            "benchmarks": [BENCHMARKS["plain_questions"]],
            "eval_batch": 48,
        }
    )
