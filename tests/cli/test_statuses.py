"""How a run or a search ended, as its exit status, where the tracebacks lie, and what stays beside its result."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from lab_toys import COARSE, FINE, recipe, recipe_data

from ommatidia.core.config import Config
from ommatidia.core.console import Console, use
from ommatidia.core.errors import ConfigError, DataError, DesignsFailedError, DiskError, RunError
from ommatidia.lab.drive import run_recipe
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.plan import Plan
from ommatidia.lab.search import Search
from ommatidia.train.interrupt import StoppedError
from ommatidia.train.metrics import read_metrics

BAD = {**FINE, "std": [1e-30, 1e-30, 1e-30]}
"""An encoder whose features leave the range of 16 bits, as is seen when they are made."""


def omma(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, in a folder."""
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "ommatidia.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def written(value: Config, path: Path) -> str:
    path.write_text(value.to_yaml(), encoding="utf-8")
    return str(path)


def search_of(**pool: dict[str, Any]) -> Search:
    data = recipe_data("coarse", steps=1)
    return Search.parse(
        {"name": "mixed", "strategy": {"kind": "singles", "recipe": data, "pool": pool, "blind": False}}
    )


@pytest.mark.slow
def test_a_search_with_failed_designs_has_a_status_and_says_where_to_read_why(tmp_path: Path) -> None:
    path = written(search_of(good=COARSE, bad=BAD), tmp_path / "search.yaml")
    done = omma(tmp_path, "search", path, "--store", "kept")
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    place = lines.index("failed: 1 designs, exit status 3; tracebacks:")
    (trace,) = [Path(line) for line in lines[place + 1 :]]
    assert trace.parent == Path("kept/failures")
    text = (tmp_path / trace).read_text()
    assert text.startswith("pre-align: bad (seed 0)\nstage 'pre-align', step 1 of 1: the loss is nan")
    assert "Traceback (most recent call last)" in text
    assert (tmp_path / "runs" / "mixed" / "model" / "config.json").is_file(), "the best of the others is kept"
    again = omma(tmp_path, "search", path, "--store", "kept", "--json")
    assert again.returncode == 3
    told = json.loads(again.stdout)
    assert list(told["tracebacks"].values()) == [str(trace)]


@pytest.mark.slow
def test_a_run_that_fails_and_a_search_without_a_survivor_have_it_too(tmp_path: Path) -> None:
    data = recipe_data("coarse", steps=1)
    data["model"]["encoders"] = {"bad": BAD}
    alone = omma(tmp_path, "run", written(Recipe.parse(data), tmp_path / "one.yaml"), "--store", "kept")
    none = omma(tmp_path, "search", written(search_of(bad=BAD), tmp_path / "none.yaml"), "--store", "kept")
    for done in (alone, none):
        assert done.returncode == 3
        (trace,) = [word for word in done.stderr.replace("\n", " ").split() if word.endswith(".txt")]
        assert "Traceback" in (tmp_path / trace).read_text()


def test_statuses_of_errors() -> None:
    assert {kind: kind("x").status for kind in (ConfigError, DataError, RunError, DiskError)} == dict.fromkeys(
        (ConfigError, DataError, RunError, DiskError), 1
    )
    assert (DesignsFailedError("x").status, StoppedError("x").status) == (3, 143)


class Hub(ModuleType):
    """Stands for the package wandb."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.runs: dict[str, list[tuple[int, float]]] = {}

    def init(self, *, name: str, **_: Any) -> Any:
        points = self.runs.setdefault(name, [])
        return SimpleNamespace(log=lambda data, step: points.append((step, data["loss"])), finish=lambda: None)


def test_curves_of_a_whole_run_lie_beside_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as it trains, and again beside another result, from what the store kept."""
    one, store, hubs = recipe("coarse", "fine"), Store(tmp_path / "kept"), [Hub(), Hub()]
    for number, hub in enumerate(hubs):
        monkeypatch.setitem(sys.modules, "wandb", hub)
        with use(Console(quiet=True)):
            run_recipe(one, store, out=tmp_path / str(number), command="omma run", track=("wandb",))
    assert hubs[0].runs == hubs[1].runs
    names = {name.rpartition(" ")[0] for name in hubs[0].runs}
    assert names == {
        "language language seed0",
        "pre-align coarse seed0",
        "pre-align fine seed0",
        "tune coarse+fine channel_concat seed0",
    }
    folders = {path.name for path in (tmp_path / "0" / "tracking" / "wandb").iterdir()}
    assert folders == {name.replace(" ", "-") for name in hubs[0].runs}
    (tune,) = [job for job in Plan.of([one]).jobs.values() if job.label.startswith("tune")]
    (name,) = [name for name in hubs[0].runs if name.startswith("tune")]
    kept = read_metrics(tune.folder(store) / "metrics.jsonl")
    assert hubs[0].runs[name] == [(kept[-1].step, kept[-1].loss)]
    assert name.endswith(tune.key[:8])


@pytest.mark.slow
def test_what_curves_need_is_asked_before_anything_is_trained(tmp_path: Path) -> None:
    path = written(recipe("coarse"), tmp_path / "one.yaml")
    done = omma(tmp_path, "run", path, "--store", "kept", "--track", "tensorbord")
    assert done.returncode == 1
    assert "unknown tracker 'tensorbord'; did you mean 'tensorboard'" in " ".join(done.stderr.split())
    assert not (tmp_path / "kept").exists()
    if importlib.util.find_spec("wandb") is not None:
        return
    stage_of_its_own = written(recipe("coarse"), tmp_path / "two.yaml")
    done = omma(tmp_path, "run", stage_of_its_own, "--store", "kept", "--set", "stages.2.engine.log=[wandb]")
    assert done.returncode == 1
    assert "pip install 'ommatidia[wandb]'" in " ".join(done.stderr.split())
    assert not list((tmp_path / "kept").glob("nodes/*"))
