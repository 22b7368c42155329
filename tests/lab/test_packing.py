"""A recipe whose stages pack their samples ends with the weights of one that pads them, under the same keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lab_toys
import torch
from safetensors.torch import load_file

from ommatidia.core.console import Console, use
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan


def trained(folder: Path, engine: dict[str, Any]) -> tuple[list[str], dict[str, torch.Tensor]]:
    data = lab_toys.recipe_data("coarse", "vit")
    for stage in data["stages"]:
        stage["engine"] = engine
    plan, store = Plan.of([Recipe.parse(data)]), Store(folder)
    with use(Console(quiet=True)), store.writing():
        assert execute(plan, store).failed == {}
    last = plan.trials[0].training[-1]
    return list(plan.jobs), load_file(last.folder(store) / "trained.safetensors")


def test_packed_stages_end_where_padded_ones_do(tmp_path: Path) -> None:
    keys, padded = trained(tmp_path / "padded", {})
    others, packed = trained(tmp_path / "packed", {"packing": {"tokens": 64, "views": 4}})
    assert others == keys
    assert packed.keys() == padded.keys()
    for name, tensor in padded.items():
        torch.testing.assert_close(packed[name], tensor, rtol=1e-3, atol=2e-4)
