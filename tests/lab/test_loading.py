"""A training is a function of its seed and its steps: not of how many threads load, nor of where it was taken up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab_toys import recipe_data
from safetensors.torch import load_file

from ommatidia.core.console import Console, use
from ommatidia.core.errors import DiskError
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import TrainingJob
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan
from ommatidia.models.processor import Processor
from ommatidia.train.metrics import MetricsLog, read_metrics

WORDS = "<|end|><|user|>Is <|pad|>it<|assistant|>"


def loaded_by(workers: int) -> Recipe:
    """One stage of a model with dropout over questions that hold marks, in micro-batches, loaded by so many threads."""
    data = recipe_data("coarse", steps=6)
    (stage,) = data["stages"][-1:]
    stage |= {"save_every": 2, "micro_batch": 4, "engine": {"workers": workers}}
    stage["train"] = {"encoders.*": 1e-3, "projector": 1e-3, "language": 1e-3}  # so that no features are stored
    language = data["model"]["language"] | {"dropout": 0.2}
    return Recipe.parse(data | {"stages": [stage], "model": data["model"] | {"language": language}})


def train(folder: Path, workers: int) -> tuple[Any, list[tuple[float, float]]]:
    """What the stage leaves, and loss and gradient norm of every step."""
    store, plan = Store(folder), Plan.of([loaded_by(workers)])
    (job,) = [job for job in plan.jobs.values() if isinstance(job, TrainingJob)]
    with use(Console(quiet=True)), store.writing():
        result = execute(Plan([], {job.key: job}), store)
    assert result.failed == {}
    steps = read_metrics(job.folder(store) / "metrics.jsonl")
    return load_file(job.folder(store) / "trained.safetensors"), [(one.loss, one.norm) for one in steps]


@pytest.fixture(autouse=True)
def forging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text of people holds marks, none is remembered, so that threads meet in the tokenizer all the time."""
    plain = Processor._encode_uncached

    def forge(self: Processor, text: str, special: bool) -> tuple[int, ...]:
        return plain(self, text if special else WORDS + text, special)

    monkeypatch.setattr(Processor, "_encode_uncached", forge)
    monkeypatch.setattr("ommatidia.models.processor._TEXTS_KEPT", 0)


def test_threads_and_a_new_start_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = train(tmp_path / "0", 0)
    assert len(alone[1]) == 6
    for workers in (2, 8):
        weights, steps = train(tmp_path / str(workers), workers)
        assert steps == alone[1]
        assert weights.keys() == alone[0].keys()
        assert all(weights[name].equal(tensor) for name, tensor in alone[0].items())

    plain = MetricsLog.write

    def stop(self: MetricsLog, report: Any) -> None:
        if report.step == 4:
            raise DiskError("no room")
        plain(self, report)

    monkeypatch.setattr(MetricsLog, "write", stop)
    with pytest.raises(DiskError, match="no room"):
        train(tmp_path / "again", 8)
    monkeypatch.setattr(MetricsLog, "write", plain)
    weights, steps = train(tmp_path / "again", 2)
    assert steps == alone[1]
    assert all(weights[name].equal(tensor) for name, tensor in alone[0].items())
