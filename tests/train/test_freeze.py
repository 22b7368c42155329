"""Patterns, freezing, the table of what trains, and the state a stage leaves behind."""

from __future__ import annotations

import copy

import pytest
import torch
import train_toy
from torch import nn

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.train.freeze import freeze, load_trained, select, table, trained_state


def chosen(train, **more):
    return dict(select(train_toy.Toy(**more).parts(), train).rates)


def test_a_part_a_glob_a_module_and_a_parameter():
    assert list(chosen({"projector": 1.0})) == ["projector:0.weight", "projector:0.bias"]
    everything = chosen({"*": 1.0})
    assert len(everything) == sum(1 for _ in train_toy.Toy().parameters())
    neck = [
        "encoders.toy:neck.0.weight",
        "encoders.toy:neck.0.bias",
        "encoders.toy:neck.1.weight",
        "encoders.toy:neck.1.bias",
    ]
    assert list(chosen({"encoders.*:neck.*": 1.0})) == neck
    assert list(chosen({"encoders.*:neck": 1.0})) == neck
    assert list(chosen({"encoders.toy:*.bias": 1.0})) == [
        f"encoders.toy:{n}.bias" for n in ("trunk.0", "trunk.1", "neck.0", "neck.1")
    ]


def test_a_module_name_does_not_match_longer_names():
    blocks = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(21)])})
    parts = {"encoders.clip": blocks}
    assert list(select(parts, {"encoders.clip:blocks.2": 1.0}).rates) == ["encoders.clip:blocks.2.weight"]
    assert len(select(parts, {"encoders.clip:blocks.2*": 1.0}).rates) == 2


def test_the_most_specific_pattern_wins_whatever_the_order():
    train = {"*": 1.0, "encoders.*": 2.0, "encoders.toy": 3.0, "encoders.*:neck.*": 4.0, "encoders.*:neck.1.bias": 5.0}
    for patterns in (train, dict(reversed(train.items()))):
        rates = chosen(patterns)
        assert rates["language:head.weight"] == 1.0
        assert rates["encoders.toy:trunk.0.weight"] == 3.0
        assert rates["encoders.toy:neck.1.weight"] == 4.0
        assert rates["encoders.toy:neck.1.bias"] == 5.0


def test_equally_specific_patterns_must_agree():
    with pytest.raises(ConfigError, match=r"language:embedding.weight matches 'languag.*' and .* equally well"):
        chosen({"languag*": 1.0, "*anguage": 2.0})
    assert chosen({"languag*": 1.0, "*anguage": 1.0})["language:head.weight"] == 1.0


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"projectr": 1.0}, "unknown part 'projectr'; did you mean 'projector'"),
        ({"projector": 1.0, "encoders.clip": 1.0}, "'encoders.clip'"),
        ({"encoders.*:nek.*": 1.0}, "no parameter of encoders.toy matches; did you mean 'neck"),
        ({"language:zzz": 1.0}, "it has embedding, head"),
        ({"injection": 1.0}, "nothing would train: 'injection'"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(train, said):
    with pytest.raises(ConfigError) as caught:
        chosen(train)
    assert said in str(caught.value)


def test_a_part_without_parameters_may_be_named_beside_others():
    assert chosen({"injection": 1.0, "projector": 2.0}) == {"projector:0.weight": 2.0, "projector:0.bias": 2.0}


def test_tied_parameters_count_once_under_either_name():
    assert chosen({"language:head.weight": 1.0}, tied=True) == {"language:embedding.weight": 1.0}
    model = train_toy.Toy(tied=True)
    load_trained(model.parts(), {"language:head.weight": torch.ones(train_toy.VOCABULARY, train_toy.WIDTH)})
    assert bool((model.language.embedding.weight == 1).all())


def test_select_works_without_weights_and_changes_nothing():
    with torch.device("meta"):
        model = train_toy.Toy()
    trained = select(model.parts(), {"encoders.*:neck": 1.0})
    assert list(trained.rates) == list(chosen({"encoders.*:neck": 1.0}))
    assert all(p.requires_grad for p in model.parameters())
    assert table(model.parts(), trained)[0][1:] == ("176", "88", "1", "partly trained")


def test_modes_follow_what_trains():
    model = train_toy.Toy(dropout=0.5)
    parts = model.parts()
    freeze(parts, select(parts, {"encoders.toy:neck": 1.0, "projector": 1.0}))
    assert not any(m.training for m in model.encoder.trunk.modules())  # its dropout and batch norm included
    assert model.encoder.neck.training
    assert model.projector[2].training
    assert not model.language.training
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        f"{n}.{k}" for n in ("encoder.neck.0", "encoder.neck.1", "projector.0") for k in ("weight", "bias")
    }
    freeze(parts, select(parts, {"encoders.toy:trunk.0": 1.0}))
    assert model.encoder.trunk.training
    assert not model.encoder.trunk[1].training  # batch norm whose parameters are all frozen
    assert not model.projector.training


def test_buffers_that_change_are_part_of_the_state():
    model = train_toy.Toy()
    parts = model.parts()
    names = set(trained_state(parts, select(parts, {"encoders.toy:trunk": 1.0})))
    assert {f"encoders.toy:trunk.1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")} <= names
    assert not any("running" in n for n in trained_state(parts, select(parts, {"encoders.toy:neck": 1.0})))


def test_table_rows():
    parts = train_toy.Toy().parts()
    rows = table(parts, select(parts, {"projector": 1e-3, "language:head": 2e-5, "language:embedding": 1e-5}))
    assert rows == [
        ("encoders.toy", "176", "0", "", "frozen"),
        ("projector", "72", "72", "0.001", "trained"),
        ("injection", "0", "0", "", "no parameters"),
        ("language", "176", "176", "1e-05 .. 2e-05", "trained"),
    ]


def test_state_round_trip_is_a_copy():
    model, other = train_toy.Toy(seed=0), train_toy.Toy(seed=1)
    trained = select(model.parts(), {"*": 1.0})
    state = trained_state(model.parts(), trained)
    load_trained(other.parts(), state, trained=trained)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    before = copy.deepcopy(state)
    with torch.no_grad():
        model.projector[0].weight.zero_()
    assert all(torch.equal(state[n], before[n]) for n in state)


WEIGHT = torch.zeros(11, 8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {"projector:0.wieght": WEIGHT}, "is not in this model; nearest: 'projector:0.weight'"),
        (lambda s: s | {"projector:0.bias": WEIGHT}, "'projector:0.bias' has shape [11, 8], the model [8]"),
        (lambda s: {n: t for n, t in s.items() if "bias" not in n}, "missing, the first is 'projector:0.bias'"),
        (lambda s: s | {"language:head.weight": WEIGHT}, "not trained here, the first is 'language:head.weight'"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, said):
    model = train_toy.Toy()
    trained = select(model.parts(), {"projector": 1.0})
    before = copy.deepcopy(model.state_dict())
    state = {n: t + 1 for n, t in trained_state(model.parts(), trained).items()}
    with pytest.raises(RunError) as caught:
        load_trained(model.parts(), change(state), trained=trained)
    assert said in str(caught.value)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
