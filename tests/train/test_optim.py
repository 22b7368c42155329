"""The schedule's exact values, the parameter groups, clipping."""

from __future__ import annotations

import math

import pytest
import torch
import train_toy

from ommatidia.core.errors import ConfigError
from ommatidia.train import optim
from ommatidia.train.freeze import freeze, select
from ommatidia.train.optim import clip_gradients, schedule, set_rate


@pytest.mark.parametrize(
    ("shape", "factors"),
    [
        ("constant", [0.5, 1.0, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8))]),
    ],
)
def test_schedule(shape, factors):
    assert [schedule(s, total=10, warmup=0.2, shape=shape) for s in range(10)] == pytest.approx(factors, abs=1e-15)


def test_schedule_of_very_short_stages():
    assert schedule(0, total=1, warmup=0.9, shape="cosine") == 1.0
    assert [schedule(s, total=2, warmup=0.9, shape="linear") for s in range(2)] == [1.0, 1.0]
    assert schedule(0, total=3, warmup=0.0, shape="linear") == 1.0


def groups_of(train, **fields):
    parts = train_toy.Toy().parts()
    trained = select(parts, train)
    freeze(parts, trained)
    return optim.optimizer(parts, trained, train_toy.stage(**fields))


def test_a_group_for_each_rate_and_decay():
    optimizer = groups_of({"projector": 1e-3, "encoders.*:neck": 2e-3}, betas=(0.8, 0.9), eps=1e-6)
    found = {(g["lr"], g["weight_decay"]): [tuple(p.shape) for p in g["params"]] for g in optimizer.param_groups}
    assert found == {(2e-3, 0.0): [(8,), (8,), (8,)], (2e-3, 0.1): [(8, 8)], (1e-3, 0.1): [(8, 8)], (1e-3, 0.0): [(8,)]}
    assert all(g["betas"] == (0.8, 0.9) and g["eps"] == 1e-6 for g in optimizer.param_groups)
    set_rate(optimizer, 0.25)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [0.25e-3, 0.5e-3]
    set_rate(optimizer, 1.0)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [1e-3, 2e-3]


def test_weights_must_be_held_in_float32():
    model = train_toy.Toy()
    model.projector.to(torch.bfloat16)
    with pytest.raises(ConfigError, match=r"projector:0.weight cannot train: it holds torch.bfloat16"):
        optim.optimizer(model.parts(), select(model.parts(), {"projector": 1e-3}), train_toy.stage())


@pytest.mark.parametrize("limit", [None, 0.5, 100.0])
def test_clipping_returns_the_norm_before(limit):
    optimizer = groups_of({"projector": 1e-3})
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, 0.5)
    norm = math.sqrt(72 * 0.25)
    assert float(clip_gradients(optimizer, limit)) == pytest.approx(norm, rel=1e-6)
    after = math.sqrt(sum(float(p.grad.square().sum()) for g in optimizer.param_groups for p in g["params"]))
    assert after == pytest.approx(0.5 if limit == 0.5 else norm, rel=1e-5)


def test_clipping_where_nothing_had_a_gradient():
    optimizer = groups_of({"projector": 1e-3})
    assert float(clip_gradients(optimizer, None)) == 0.0
    assert float(clip_gradients(optimizer, 1.0)) == 0.0
