"""Stage: what is refused, how long it is, what identifies it; and that naming a stage needs no torch."""

from __future__ import annotations

import pytest
import train_toy

from ommatidia.core.config import override
from ommatidia.core.errors import ConfigError
from ommatidia.train.stage import Stage


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"epochs": 1.0}, "exactly one of steps and epochs, got both"),
        ({"steps": None}, "exactly one of steps and epochs, got neither"),
        ({"train": {}}, "nothing would train"),
        ({"train": {"projector": 0.0}}, "train.projector: Input should be greater than 0"),
        ({"train": {"projector": float("nan")}}, "train.projector"),
        ({"train": {"projector:": 1e-3}}, "expected PART or PART:PARAMETER"),
        ({"train": {"a:b:c": 1e-3}}, "expected PART or PART:PARAMETER"),
        ({"train": {"my part": 1e-3}}, "expected PART or PART:PARAMETER"),
        ({"micro_batch": 3}, "micro_batch 3 does not divide batch 8; nearest that does: 2"),
        ({"micro_batch": 16}, "nearest that does: 8"),
        ({"warmup": 1.0}, "warmup"),
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"clip": 0.0}, "clip"),
        ({"name": "Stage One"}, "name"),
        ({"schedule": "cosin"}, "schedule"),
        ({"stepz": 4}, "did you mean 'steps'"),
    ],
)
def test_refused(fields, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        train_toy.stage(**fields)


@pytest.mark.parametrize(
    ("epochs", "size", "batch", "steps"),
    [(1.0, 100, 32, 4), (1.0, 96, 32, 3), (0.1, 30, 3, 1), (0.5, 7, 8, 1), (3.0, 7, 8, 3)],
)
def test_total_steps_cover_the_epochs(epochs, size, batch, steps):
    assert train_toy.stage(steps=None, epochs=epochs, batch=batch).total_steps(size) == steps


def test_steps_do_not_depend_on_the_data():
    assert train_toy.stage(steps=5).total_steps(10**6) == 5


def test_epochs_of_nothing_are_refused():
    with pytest.raises(ConfigError, match="0 records"):
        train_toy.stage(steps=None, epochs=1.0).total_steps(0)


def test_only_what_changes_the_result_is_in_the_digest():
    value = train_toy.stage()
    same = train_toy.stage(micro_batch=2, log_every=1, save_every=7)
    assert value.digest() == same.digest()
    for path, new in {"batch": 4, "train": {"projector": 1e-3}, "clip": None, "seed": 1, "warmup": 0.0}.items():
        assert override(value, path, new).digest() != value.digest(), path


def test_round_trip_and_seed():
    value = train_toy.stage(betas=(0.8, 0.95), clip=None, precision="bf16")
    assert Stage.parse(value.to_dict()) == value
    assert value.seed_or(7) == 7
    assert train_toy.stage(seed=0).seed_or(7) == 0
