"""SVA: exact windows and masks, attention against a plain computation, published sizes, and what may not matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid, content
from ommatidia.core.types import View, Views
from ommatidia.models.fusion import SVA, FusionConfig
from ommatidia.models.fusion.sva import SVALayer, layer_cost
from ommatidia.models.fusion.windows import Windows, WindowSizes, showing, to_windows, windows
from ommatidia.models.projector import MLPProjector

FINAL = {
    "siglip": Grid(27, 27, 1152),
    "clip": Grid(24, 24, 1024),
    "dino": Grid(27, 27, 1536),
    "conv": Grid(96, 96, 5760),
}
SMALL = {"a": Grid(4, 4, 6), "b": Grid(8, 8, 10)}
TINY = SVA(side=4, width=16, depth=2, heads=2, groups=(4,))


def seen(*sizes: tuple[int, int]) -> Views:
    return Views.of([[View(0, size)] for size in sizes])


def features(count: int, grids: dict[str, Grid] = SMALL) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {n: torch.randn(count, g.height, g.width, g.dim, generator=generator) for n, g in grids.items()}


def test_windows_hold_their_own_cells_and_come_back() -> None:
    x_KSSC = torch.arange(2.0 * 36).view(2, 6, 6, 1)
    x_NMC = to_windows(x_KSSC, 3)
    assert x_NMC.shape == (8, 9, 1)
    assert x_NMC[1, :, 0].tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]
    assert x_NMC[4, 0, 0] == 36, "the second view starts behind all windows of the first"
    back_KSSC = torch.empty_like(x_KSSC)
    for n, x_MC in enumerate(x_NMC):
        view, row, column = n // 4, 3 * (n // 2 % 2), 3 * (n % 2)
        back_KSSC[view, row : row + 3, column : column + 3] = x_MC.unflatten(0, (3, 3))
    assert torch.equal(back_KSSC, x_KSSC)


@pytest.mark.parametrize(
    ("height", "width", "side", "expected"),
    [
        (480, 640, 24, (3, 0)),
        (480, 640, 96, (12, 0)),
        (1080, 1920, 24, (5, 0)),  # 13 rows of image, of which 14 are kept
        (1080, 1920, 96, (21, 0)),  # 54 rows: 13.5 of the coarse ones
        (1920, 1080, 24, (0, 5)),
        (500, 1000, 24, (6, 0)),
        (700, 700, 24, (0, 0)),
        (1, 1000, 24, (11, 0)),  # the released code keeps nothing here and stops
        (1000, 1, 5, (0, 2)),
    ],
)
def test_padding_is_rounded_as_released(height: int, width: int, side: int, expected: tuple[int, int]) -> None:
    assert content(side, side, height, width, at_least=1)[:2] == expected


def test_the_mask_shows_the_picture_and_a_window_beside_it_may_look_everywhere() -> None:
    shown_KSS = showing([(2, 4), (4, 2), (3, 3)], 4)
    assert shown_KSS[0].int().tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]
    assert torch.equal(shown_KSS[1], shown_KSS[0].T)
    assert shown_KSS[2].all()
    sizes = WindowSizes(2, 1, 1, {"a": 2, "b": 1})
    maps = {"a": torch.zeros(1, 4, 4, 1), "b": torch.zeros(1, 2, 2, 1)}
    shown = {"a": torch.zeros(1, 4, 4, dtype=torch.bool), "b": torch.ones(1, 2, 2, dtype=torch.bool)}
    shown["a"][0, 1] = True
    cut = windows(maps, shown, torch.zeros(1, 1), sizes=sizes)
    assert cut.shown_NM.int().tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [1] * 5, [1] * 5]
    assert cut.at(torch.tensor([2])).shown_NM.tolist() == [[True] * 5]


def test_one_query_over_the_whole_picture_is_plain_cross_attention() -> None:
    sizes = WindowSizes(1, 8, 2, {"a": 2, "b": 3})
    torch.manual_seed(0)
    layer = SVALayer(5, sizes).double()
    looked = Windows(
        {"a": torch.randn(1, 4, 8).double(), "b": torch.randn(1, 9, 8).double()},
        torch.rand(1, 13) > 0.4,
        torch.randn(1, 8).double(),
        torch.zeros(1, dtype=torch.long),
    )
    x_1Q = torch.randn(1, 5).double()
    attention = layer.cross_attn
    h_C = layer.proj_in(torch.cat([x_1Q[0], layer.proj_context(looked.context_KC[0])]))
    query_C, keys, values = attention.q_proj(h_C), [], []
    for name, x_1MC in looked.cells.items():
        for x_C, position_C in zip(x_1MC[0], layer.positions[name], strict=True):
            keys.append(attention.k_proj[name](x_C + position_C))
            values.append(attention.v_proj[name](x_C + position_C))
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores_M = torch.stack([query_C[head] @ key_C[head] / 2 for key_C in keys])
        weights_M = scores_M.masked_fill(~looked.shown_NM[0], -torch.inf).softmax(0)
        heads.append(sum(weight * value_C[head] for weight, value_C in zip(weights_M, values, strict=True)))
    h_C = layer.norm(h_C + attention.o_proj(torch.cat(heads)))  # type: ignore[arg-type]
    torch.testing.assert_close(layer(x_1Q, looked)[0], x_1Q[0] + layer.proj_out(h_C))


def test_the_final_models_have_their_published_sizes() -> None:
    fusion = SVA(sides={"conv": 96})
    sizes = fusion.memory_shape(FINAL)
    assert fusion.out(FINAL) == Grid(24, 24, 1024)
    assert sizes.cells == {"siglip": 1, "clip": 1, "dino": 1, "conv": 4}
    assert sizes.keys == 19
    connector = layer_cost(1024, sizes, queries=576, views=1).parameters
    assert connector / 1e6 == pytest.approx(15.77, abs=0.005)
    adapters = fusion.cost(FINAL).parameters - 3 * connector - 1024
    assert adapters / 1e6 == pytest.approx(13.9, abs=0.05)
    for width, inside, projector in ((4096, 22.06, 21.0), (5120, 24.15, 31.5), (7168, 28.35, 58.7)):
        layer = layer_cost(width, sizes, queries=576, views=1).parameters
        assert layer / 1e6 == pytest.approx(inside, abs=0.005)
        assert MLPProjector().cost(fusion.out(FINAL), width).parameters / 1e6 == pytest.approx(projector, abs=0.05)


def test_grids_follow_the_encoders_in_steps_of_the_groups() -> None:
    assert SVA(side=4, groups=(4,)).windowed({"a": Grid(27, 27, 1), "b": Grid(2, 3, 1)}) == {"a": 28, "b": 4}
    assert SVA(side=4, groups=(4, 6)).windowed({"a": Grid(16, 20, 1)}) == {"a": 12}
    alone = SVA(side=4, groups=(4,), sides={"a": 4, "b": 16}).single("b")
    assert alone.out({"b": Grid(8, 8, 3)}) == Grid(4, 4, 1024)
    assert alone == SVA(side=4, groups=(4,), sides={"b": 16})


def test_pictures_of_any_aspect_are_as_if_alone() -> None:
    module, sizes, given = TINY.build(SMALL), [(30, 40), (90, 10), (10, 90), (7, 7)], features(4)
    together = module(given, seen(*sizes)).y_KHWD
    for k, size in enumerate(sizes):
        alone = module({name: x[k : k + 1] for name, x in given.items()}, seen(size)).y_KHWD
        torch.testing.assert_close(together[k : k + 1], alone)
    assert not torch.allclose(together, module(given, Views.whole(4)).y_KHWD, atol=1e-3)


def test_what_stands_beside_the_picture_reaches_its_queries_through_the_released_context_alone() -> None:
    size, given = (10, 20), features(1)
    beside = {name: x.clone() for name, x in given.items()}
    beside["a"][:, 0], beside["b"][:, -2:] = 9.0, -9.0
    for context, apart in (("shown", True), ("first", False)):
        torch.manual_seed(1)
        module = SVA(**{**TINY.to_dict(), "context": context}).build(SMALL)
        one, other = (module(x, seen(size)).y_KHWD[:, 1:3] for x in (given, beside))
        assert torch.allclose(one, other, atol=1e-6) == apart
    loose = SVA(**{**TINY.to_dict(), "padded": False}).build(SMALL)
    assert torch.equal(loose(given, seen(size)).y_KHWD, loose(given, seen((9, 9))).y_KHWD)


def test_a_coarse_group_is_spread_over_the_final_grid() -> None:
    config = SVA(**{**TINY.to_dict(), "groups": (4, 1)})
    y_KHWD = config.build(SMALL)(features(2), Views.whole(2)).y_KHWD
    fine, coarse = y_KHWD.split(16, -1)
    torch.testing.assert_close(coarse, coarse[:, :1, :1].expand_as(coarse))
    assert fine.std((1, 2)).min() > 0


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"width": 20, "heads": 8}, "width 20 is not divisible by 8 heads"),
        ({"sides": {"aa": 24}}, "did you mean 'a'"),
        ({"sides": {"a": 30}}, "30 of 'a' is no multiple of 24"),
        ({"side": 4, "groups": [6], "sides": {"a": 4}}, "4 of 'a' is no multiple of 12"),
        ({"groups": []}, "groups"),
    ],
)
def test_impossible_aggregators_are_refused(config: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        FusionConfig.parse({"kind": "sva", **config}).out(SMALL)
    with pytest.raises(ConfigError, match="there is no encoder"):
        SVA().out({})
