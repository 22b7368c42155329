"""Deformable attention: starts, constant maps, rings, a naive loop on two levels, images seen whole."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import View, Views
from ommatidia.models.fusion import Deformable
from ommatidia.models.fusion.deformable import rings, sample

GRIDS = {"query": Grid(3, 3, 8), "fine": Grid(12, 12, 5)}
ONE = Views.whole(1)


def small(**changes: object) -> Deformable:
    return Deformable.parse({"kind": "deformable", "dim": 8, "heads": 2, "points": 2} | changes)


def features(views: int = 1) -> dict[str, Tensor]:
    return {name: torch.randn(views, g.height, g.width, g.dim) for name, g in GRIDS.items()}


def test_it_starts_as_the_first_encoder_alone_unless_told_otherwise() -> None:
    x = features()
    assert torch.equal(small().build(GRIDS)(x, ONE).y_KHWD, x["query"])
    assert not torch.allclose(small(zero_init=False).build(GRIDS)(x, ONE).y_KHWD, x["query"], atol=1e-2)


def test_points_start_on_square_rings() -> None:
    ring_ALP2 = rings(8, 2, 3)
    torch.testing.assert_close(ring_ALP2.abs().amax(-1), torch.tensor([1.0, 2.0, 3.0]).expand(8, 2, 3))
    torch.testing.assert_close(ring_ALP2[1, 1, 1], torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(ring_ALP2[2, 0, 2], torch.tensor([0.0, 3.0]), atol=1e-6, rtol=0)


def test_a_constant_map_answers_the_same_wherever_points_lie() -> None:
    module, x = small(zero_init=False).build(GRIDS), features()
    x["fine"] = x["fine"][:, :1, :1].expand(1, 12, 12, 5)
    middle = module(x, ONE).y_KHWD[0, 1, 1] - x["query"][0, 1, 1]  # its points lie inside the map
    value = module.value_proj(module.levels["fine"](x["fine"][0, 0, 0]))
    torch.testing.assert_close(middle, module.output_proj(value))


def test_untrained_weights_average_the_ring() -> None:
    module, x = small(zero_init=False).build(GRIDS), features()
    v_HWC = module.value_proj(module.levels["fine"](x["fine"]))[0]
    # The centre of the middle token is the corner of cells 5 and 6; a look there is the mean of four cells.
    right = [v_HWC[5:7, 5 + p : 7 + p, :4].mean((0, 1)) for p in (1, 2)]
    left = [v_HWC[5:7, 5 - p : 7 - p, 4:].mean((0, 1)) for p in (1, 2)]
    answer = torch.cat([torch.stack(right).mean(0), torch.stack(left).mean(0)])
    out = module(x, ONE).y_KHWD[0, 1, 1] - x["query"][0, 1, 1]
    torch.testing.assert_close(out, module.output_proj(answer))


def test_points_learn_through_the_map_alone() -> None:
    module, x = small(zero_init=False).build(GRIDS), features()
    bias = cast(nn.Linear, module.sampling_offsets).bias
    (gradient,) = torch.autograd.grad(module(x, ONE).y_KHWD.square().sum(), bias)
    assert gradient.abs().max() > 1e-3
    x["fine"] = torch.ones(1, 12, 12, 5)
    (gradient,) = torch.autograd.grad(module(x, ONE).y_KHWD[0, 1, 1].square().sum(), bias)
    assert gradient.abs().max() < 1e-5


def test_rings_that_stay_are_no_parameters_and_give_the_same_start() -> None:
    torch.manual_seed(0)
    free, still = (small(zero_init=False, learned_points=learned).build(GRIDS) for learned in (True, False))
    still.load_state_dict({k: v for k, v in free.state_dict().items() if not k.startswith("sampling_offsets")})
    x = features(2)
    torch.testing.assert_close(still(x, Views.whole(2)).y_KHWD, free(x, Views.whole(2)).y_KHWD)


def _look(v_HWC: Tensor, x: float, y: float) -> Tensor:
    """One bilinear look at fractions (x, y), zero outside, cell by cell."""
    height, width = v_HWC.shape[:2]
    column, row = x * width - 0.5, y * height - 0.5
    total = torch.zeros(v_HWC.shape[2])
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                total = total + v_HWC[i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


def test_sampling_agrees_with_a_loop_on_two_levels() -> None:
    for height, width in ((4, 4), (3, 5)):
        v, places, weights = (
            torch.randn(1, height, width, 6),
            torch.rand(1, 3, 2, 2, 2) * 1.4 - 0.2,
            torch.rand(1, 3, 2, 2),
        )
        out = sample(v, places, weights)
        for token in range(3):
            for head in range(2):
                part = slice(3 * head, 3 * head + 3)
                looks = [_look(v[0, :, :, part], *places[0, token, head, p].tolist()) for p in range(2)]
                expected = sum(weights[0, token, head, p] * looks[p] for p in range(2))
                torch.testing.assert_close(out[0, token, part], expected)


def test_a_view_of_a_picture_seen_whole_looks_around_its_own_place() -> None:
    module = small(zero_init=False, points=1).build(GRIDS)
    boxes = [(0, 0, 0.5, 0.5), (0, 0, 1, 1)]
    queries, fine = torch.randn(2, 3, 3, 8), torch.randn(1, 12, 12, 5)
    out = module({"query": queries, "fine": fine}, Views.of([[View(0, (64, 64), box) for box in boxes]])).y_KHWD
    torch.testing.assert_close(out[1:], module({"query": queries[1:], "fine": fine}, ONE).y_KHWD)
    crop = module({"query": queries[:1], "fine": fine[:, :6, :6]}, ONE).y_KHWD  # the same cells around its middle
    torch.testing.assert_close(out[0, 1, 1], crop[0, 1, 1])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match=r"the width 8 of 'query' is no multiple of 3 heads"):
        Deformable(heads=3).out(GRIDS)
