"""Interleaving and the gated sum: exact answers."""

from __future__ import annotations

import pytest
import torch

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion import FusionConfig, GatedSum, Interleave

ONE = Views.whole(1)


def test_tokens_take_turns_position_by_position() -> None:
    grids = {"b": Grid(2, 2, 1), "a": Grid(2, 2, 1)}
    features = {"a": torch.arange(4.0).view(1, 2, 2, 1), "b": 10 + torch.arange(4.0).view(1, 2, 2, 1)}
    module = Interleave().build(grids)
    assert list(module.parameters()) == []
    out = module(features, ONE).y_KHWD
    assert Interleave().out(grids) == Grid(2, 4, 1)
    assert out.flatten().tolist() == [10, 0, 11, 1, 12, 2, 13, 3]


def test_interleave_learns_for_unlike_widths_alone_and_resamples() -> None:
    grids = {"a": Grid(4, 4, 6), "b": Grid(2, 2, 10), "c": Grid(2, 2, 3)}
    config = Interleave(grid=(2, 2))
    assert config.out(grids) == Grid(2, 6, 10)
    assert config.cost(grids).parameters == (6 + 10 + 3) * 10 + 3 * 10
    assert Interleave(dim=4, grid=(2, 2)).out(grids) == Grid(2, 6, 4)
    assert config.single("b").out({"b": Grid(4, 4, 10)}) == Grid(2, 2, 10)


def test_an_untrained_gated_sum_is_the_mean_or_half_of_each() -> None:
    grids = {"a": Grid(2, 2, 6), "b": Grid(2, 2, 6)}
    features = {name: torch.randn(2, 2, 2, 6) for name in grids}
    for gate, share in (("softmax", 0.5), ("sigmoid", 0.5)):
        module = GatedSum(gate=gate).build(grids)
        each = [module.layers[name](features[name]) for name in grids]
        torch.testing.assert_close(module(features, Views.whole(2)).y_KHWD, share * (each[0] + each[1]))


def test_the_picture_opens_and_closes_the_gate() -> None:
    grids = {"a": Grid(1, 1, 4), "b": Grid(1, 1, 4)}
    module = GatedSum().build(grids)
    with torch.no_grad():
        for layer in module.layers.values():
            layer[1].weight.copy_(torch.eye(4))
            layer[1].bias.zero_()
        module.gate.weight[0, 0] = 100.0  # the first channel of the first encoder decides
    bright, dark = torch.tensor([1.0, -1, 1, -1]), torch.tensor([-1.0, 1, 1, -1])
    features = {
        "a": torch.stack([bright, dark]).view(2, 1, 1, 4),
        "b": torch.tensor([2.0, 2, -2, -2]).expand(2, 1, 1, 4),
    }
    first, second = module(features, Views.whole(2)).y_KHWD.flatten(1)
    torch.testing.assert_close(first, bright, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(second, torch.tensor([1.0, 1, -1, -1]), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["interleave", "gated_sum"])
def test_grids_that_differ_are_refused_with_both_names(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"24x24 of 'clip' and 32x32 of 'sam' cannot be joined without resampling"):
        FusionConfig.parse(kind).out({"clip": Grid(24, 24, 8), "sam": Grid(32, 32, 8)})


@pytest.mark.parametrize("kind", ["gated_sum", "patch_mining", "deformable", "routing"])
def test_nothing_to_join_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"{kind}: at least two encoders are wanted, got 1 \('clip'\); use none"):
        FusionConfig.parse(kind).out({"clip": Grid(24, 24, 8)})
