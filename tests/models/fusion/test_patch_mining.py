"""Patch mining: windows, the folded arithmetic against the plain one, images seen whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import View, Views
from ommatidia.models.fusion import PatchMining

GRIDS = {"query": Grid(2, 3, 8), "fine": Grid(4, 6, 5), "finest": Grid(8, 12, 7)}
QUARTERS = [(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1), (0.5, 0, 1, 0.5), (0.5, 0.5, 1, 1)]


def features(views: int, grids: dict[str, Grid] = GRIDS) -> dict[str, Tensor]:
    return {name: torch.randn(views, g.height, g.width, g.dim) for name, g in grids.items()}


def test_a_token_looks_only_at_the_window_under_it() -> None:
    module, x, one = PatchMining().build(GRIDS), features(1), Views.whole(1)
    before = module(x, one).y_KHWD
    x["fine"][0, 2:4, 4:6] += 1.0 + torch.randn(2, 2, 5)  # the window of the last token
    x["finest"][0, 4:8, 8:12] *= -1
    changed = (module(x, one).y_KHWD - before).abs().amax(-1)[0]
    assert changed[1, 2] > 0.01
    assert changed.flatten()[:-1].tolist() == [0.0] * 5


def test_the_folded_arithmetic_is_the_plain_attention() -> None:
    module, x = PatchMining().build(GRIDS).double(), {n: t.double() for n, t in features(2).items()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    out = module(x, Views.whole(2)).y_KHWD
    for row, column in ((0, 0), (1, 2)):
        q = module.query(x["query"][:, row, column])
        keys, values = [], []
        for name, side in (("fine", 2), ("finest", 4)):
            rows, columns = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
            window = x[name][:, rows, columns].flatten(1, 2)
            keys.append(module.key[name](window))
            values.append(module.value[name](window))
        weights = (torch.cat(keys, 1) @ q[:, :, None] / 8**0.5).softmax(1)
        answer = (weights * torch.cat(values, 1)).sum(1)
        expected = x["query"][:, row, column] + answer
        torch.testing.assert_close(out[:, row, column], expected, atol=1e-5, rtol=1e-5)  # its softmax is float32


def test_a_wrapped_layer_is_refused_rather_than_passed_by() -> None:
    module = PatchMining().build(GRIDS)
    module.key["fine"][1] = torch.nn.Sequential(module.key["fine"][1])
    with pytest.raises(ConfigError, match="cannot be wrapped in Sequential"):
        module(features(1), Views.whole(1))


def test_constant_and_huge_maps_give_finite_answers() -> None:
    module, x = PatchMining().build(GRIDS), features(1)
    x |= {"fine": torch.full((1, 4, 6, 5), 3.0), "finest": 1e6 * x["finest"]}
    out = module(x, Views.whole(1)).y_KHWD
    out.sum().backward()
    assert out.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_a_view_of_a_picture_seen_whole_mines_its_own_region() -> None:
    grids = {"query": Grid(2, 2, 8), "fine": Grid(8, 8, 5)}
    module = PatchMining(window=2).build(grids)
    views = Views.of([[View(0, (64, 64), box) for box in [*QUARTERS, (0, 0, 1, 1)]]])
    queries, fine = torch.randn(5, 2, 2, 8), torch.randn(1, 8, 8, 5)
    out = module({"query": queries, "fine": fine}, views).y_KHWD
    crops = torch.cat([fine[:, :4, :4], fine[:, :4, 4:], fine[:, 4:, :4], fine[:, 4:, 4:]])
    torch.testing.assert_close(out[:4], module({"query": queries[:4], "fine": crops}, Views.whole(4)).y_KHWD)
    whole = module({"query": queries[4:], "fine": fine}, Views.whole(1)).y_KHWD  # bilinear to 4x4 either way
    torch.testing.assert_close(out[4:], whole)
    with pytest.raises(AlignmentError, match="2 maps for 5 views of 1 images"):
        module({"query": queries, "fine": fine.repeat(2, 1, 1, 1)}, views)


def test_grids_that_do_not_nest_need_a_window() -> None:
    grids = {"clip": Grid(24, 24, 8), "sam": Grid(32, 32, 8)}
    with pytest.raises(ConfigError, match=r"32x32 of 'sam' is no whole multiple of 24x24 of 'clip'.*window: 2"):
        PatchMining().out(grids)
    assert PatchMining(window=2).out(grids) == Grid(24, 24, 8)
    with pytest.raises(ConfigError, match=r"encoder 'sam': unshuffle"):
        PatchMining(window=2, resample="unshuffle").out(grids)
