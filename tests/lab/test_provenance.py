"""What a node says of the arithmetic that made it, and what a page makes of several nodes."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import torch
from lab_toys import recipe

from ommatidia.core.console import Console, use
from ommatidia.lab.nodes.provenance import arithmetic_of, processor, provenance
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan


def test_nodes_say_what_computed_them(tmp_path: Path) -> None:
    plan, store = Plan.of([recipe("coarse", features="never", modes=("full",))]), Store(tmp_path)
    with use(Console(quiet=True)), store.writing():
        execute(plan, store)
    made = {job.kind: store.record(job.kind, key)["made"] for key, job in plan.jobs.items()}
    for kind in ("training", "prediction"):
        assert made[kind]["processor"] == processor("cpu")
        assert (made[kind]["threads"], made[kind]["precision"]) == (1, "fp32")
    assert torch.backends.cpu.get_cpu_capability() in processor("cpu")
    assert "processor" not in made["gallery"]
    assert provenance()["packages"]["torch"] == importlib.metadata.version("torch")


def test_several_nodes_give_every_value_once() -> None:
    one = {"processor": "A", "threads": 1, "precision": "fp32", "packages": {"torch": "2.15.0", "numpy": "2.4.6"}}
    other = {"processor": "B", "threads": 1, "precision": "bf16", "packages": {"torch": "2.14.0", "numpy": "2.4.6"}}
    assert arithmetic_of([one, other, {"torch": "of an older store"}]) == {
        "processors": ("A", "B"),
        "precisions": ("bf16", "fp32"),
        "threads": ("1",),
        "packages": ("numpy 2.4.6", "torch 2.14.0", "torch 2.15.0"),
    }
