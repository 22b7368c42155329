"""A laboratory small enough for a test: images of 32 pixels, a few thousand weights, stages of a few steps."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.search import Search

COARSE: dict[str, Any] = {"kind": "patches", "patch": 16, "image_size": 32, "neck": {"kind": "linear", "dim": 16}}
FINE: dict[str, Any] = {"kind": "patches", "patch": 8, "image_size": 32, "neck": {"kind": "linear", "dim": 8}}
VIT: dict[str, Any] = {
    "kind": "timm",
    "model": "vit_tiny_patch16_224",
    "image_size": 32,
    "args": {"depth": 1, "embed_dim": 32, "num_heads": 2},
    "neck": {"kind": "linear", "dim": 16},
}
COMMAND = "omma search tiny"
POOL = {"coarse": COARSE, "fine": FINE, "vit": VIT}
CONCAT: dict[str, Any] = {"kind": "channel_concat", "grid": [2, 2], "resample": "unshuffle"}
APPEND: dict[str, Any] = {"kind": "sequence_append", "grid": [2, 2], "resample": "unshuffle"}


def pictures(task: str, split: str = "train", count: int = 6) -> dict[str, Any]:
    """A drawn source of 32 pixel images with two questions each."""
    return {"kind": f"drawn_{task}", "split": split, "pictures": count, "per_picture": 2, "size": 32}


def mixture(*tasks: str) -> dict[str, Any]:
    return {"sources": {task: {"source": pictures(task)} for task in tasks}}


def benchmark(task: str, group: str) -> dict[str, Any]:
    source = pictures(task, "test")
    return {
        "kind": "source",
        "name": task,
        "group": group,
        "source": source,
        "scorer": {"kind": "exact"},
        "max_new_tokens": 3,
    }


def recipe_data(*experts: str, steps: int = 3) -> dict[str, Any]:
    """Plain data of a recipe with a language stage, an expert stage and a mixture stage."""
    text = {"kind": "described_scenes", "tasks": ["attributes"], "pictures": 6, "per_picture": 2}
    data = mixture("attributes", "counts")
    rates = {"encoders.*:neck": 1e-3, "projector": 1e-3}
    return copy.deepcopy(
        {
            "name": "tiny",
            "model": {
                "encoders": {name: POOL[name] for name in experts},
                "fusion": CONCAT if len(experts) > 1 else {"kind": "none", "grid": [2, 2], "resample": "unshuffle"},
                "projector": "linear",
                "language": {"kind": "scratch", "width": 32, "layers": 1, "heads": 2, "context": 256},
                "chat": "compact",
            },
            "stages": [
                {
                    "name": "language",
                    "scope": "language",
                    "train": {"language": 3e-3},
                    "data": {"sources": {"scenes": {"source": text}}},
                    "steps": steps,
                    "batch": 4,
                    "seed": 0,
                },
                {
                    "name": "pre-align",
                    "scope": "expert",
                    "train": rates,
                    "data": data,
                    "steps": steps,
                    "batch": 8,
                    "seed": 0,
                },
                {"name": "tune", "train": {**rates, "language": 1e-3}, "data": data, "steps": steps, "batch": 8},
            ],
            "benchmarks": [benchmark("attributes", "general"), benchmark("counts", "vision_centric")],
            "threads": 1,
        }
    )


def recipe(*experts: str, steps: int = 3, **changes: Any) -> Recipe:
    """The tiny recipe that sees through these members of ``POOL``; through none it is the blind design."""
    if not experts:
        return with_encoders(recipe("coarse", steps=steps, **changes), {})
    return Recipe.parse(recipe_data(*experts, steps=steps) | changes)


def round_robin(name: str = "tiny", **changes: Any) -> Search:
    """A round robin over two experts, with a variant and two seeds."""
    strategy = {
        "kind": "round_robin",
        "recipe": recipe("coarse", "fine").to_dict(),
        "pool": {"coarse": COARSE, "fine": FINE},
        "seeds": [0, 1],
        "variants": {"append": {"model.fusion": APPEND}},
    }
    return Search.parse({"name": name, "strategy": strategy | changes})


def singles(name: str = "singles", **changes: Any) -> Search:
    """One expert and the blind model, each trained once; every step is saved."""
    data = recipe_data("coarse", steps=4)
    for stage in data["stages"]:
        stage["save_every"] = 1
    return Search.parse(
        {"name": name, "strategy": {"kind": "singles", "recipe": data, "pool": {"coarse": COARSE}} | changes}
    )


def carry_out_singles(store: str, out: str, jobs: int = 1) -> None:
    """A whole search in a process of its own, to be killed at any moment."""
    import torch

    from ommatidia.core.console import Console, use
    from ommatidia.lab.drive import drive_search
    from ommatidia.lab.nodes.store import Store

    torch.set_num_threads(1)
    with use(Console(quiet=True)):
        drive_search(singles(), Store(Path(store)), out=Path(out), command=COMMAND, jobs=jobs)


def results(store: Path) -> dict[str, Any]:
    """Everything a store holds but the times it took."""
    found: dict[str, Any] = {}
    for node in sorted((store / "nodes").glob("*/*")):
        for path in sorted(p for p in node.rglob("*") if p.is_file() and p.name not in ("node.json", "metrics.jsonl")):
            name = str(path.relative_to(store))
            if path.suffix == ".jsonl":
                lines = sorted(path.read_text().splitlines())
                found[name] = [{**json.loads(line), "seconds": 0} for line in lines]
            elif path.name == "scores.json":
                scored = json.loads(path.read_text())
                found[name] = scored | {"scored": scored["scored"] | {"seconds": 0}}
            elif path.name == "trained.safetensors":
                found[name] = {key: tensor.tolist() for key, tensor in load_file(path).items()}
            else:
                found[name] = path.read_bytes()
    return found
