"""Routing: what an untrained adapter hands on, who is picked, what the question changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import View, Views
from ommatidia.models.attention import rotate
from ommatidia.models.fusion import Fusion, Routing
from ommatidia.models.fusion.fusion import FusionContext

GRIDS = {"base": Grid(4, 4, 8), "a": Grid(4, 4, 6), "b": Grid(3, 5, 10), "c": Grid(2, 2, 4)}


def small(**changes: object) -> Routing:
    small = {"kind": "routing", "grid": [2, 2], "blocks": 1, "heads": 2, "head_dim": 4, "stages": 1, "top_k": 2}
    return Routing.parse(small | changes)


def features(views: int) -> dict[str, Tensor]:
    return {name: torch.randn(views, g.height, g.width, g.dim) for name, g in GRIDS.items()}


def stirred(module: Fusion) -> Fusion:
    """As after training: nothing is zero any more."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


def test_untrained_it_hands_on_the_pooled_first_encoder() -> None:
    x = features(2)
    module = small(reads_question=False, blocks=2, stages=2).build(GRIDS)
    pooled = functional.avg_pool2d(x["base"].permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(module(x, Views.whole(2)).y_KHWD, pooled)
    kept = small(reads_question=False, grid=None).build(GRIDS)
    torch.testing.assert_close(kept(x, Views.whole(2)).y_KHWD, x["base"])


def test_the_gate_starts_uniform_and_picks_k() -> None:
    module = small(reads_question=False).build(GRIDS)
    x_KND = torch.randn(5, 16, 8)
    start = module.blocks[0].route(x_KND, None)
    assert (start > 0).sum(-1).tolist() == [2] * 5
    assert start[start > 0].tolist() == [0.5] * 10
    later = stirred(module).blocks[0].route(x_KND, None)
    assert (later > 0).sum(-1).tolist() == [2] * 5
    torch.testing.assert_close(later.sum(-1), torch.ones(5))
    assert (small(reads_question=False, top_k=3).build(GRIDS).blocks[0].route(x_KND, None) > 0).all()


def test_an_expert_that_no_view_picks_changes_nothing() -> None:
    module, x = stirred(small(reads_question=False, top_k=1).build(GRIDS)), features(1)
    with torch.no_grad():
        module.blocks[0].gate[2].bias.copy_(torch.tensor([0.0, 100.0, 0.0]))
    before = module(x, Views.whole(1)).y_KHWD
    others = module({**x, "a": torch.randn_like(x["a"]), "c": torch.randn_like(x["c"])}, Views.whole(1)).y_KHWD
    assert torch.equal(before, others)
    assert not torch.allclose(before, module({**x, "b": torch.randn_like(x["b"])}, Views.whole(1)).y_KHWD)


def test_the_question_chooses() -> None:
    module, x = small(top_k=1).build(GRIDS, FusionContext(2)), features(1)
    gate = module.blocks[0].gate
    with torch.no_grad():
        gate[0].weight.zero_()
        gate[0].bias.zero_()
        gate[0].weight[0, 0] = gate[0].weight[1, 1] = 10.0
        gate[2].weight[0, 0] = gate[2].weight[2, 1] = 10.0
    x_KND = x["base"].flatten(1, 2).repeat(2, 1, 1)
    picked = module.blocks[0].route(x_KND, torch.tensor([[0.01, -0.01], [-0.01, 0.01]])).argmax(-1)
    assert picked.tolist() == [0, 2]
    with pytest.raises(AlignmentError, match="reads the question, but the views bring none"):
        module(x, Views.whole(1))
    with pytest.raises(ConfigError, match="say it in the context"):
        small().build(GRIDS)


def test_rotary_scores_depend_on_the_displacement_alone() -> None:
    q, k = (torch.randn(8).expand(1, 1, 20, 8) for _ in range(2))
    scores = (rotate(q, 4, 5) @ rotate(k, 4, 5).transpose(-1, -2))[0, 0].view(4, 5, 4, 5)
    torch.testing.assert_close(scores[0, 0, 1, 2], scores[2, 2, 3, 4])
    torch.testing.assert_close(scores[3, 0, 1, 1], scores[2, 3, 0, 4])
    assert abs(scores[0, 0, 1, 2] - scores[0, 0, 2, 1]) > 1e-4
    torch.testing.assert_close(scores[1, 1, 1, 1], (q[0, 0, 0] * k[0, 0, 0]).sum())


def test_experts_may_see_pictures_whole() -> None:
    module, x = stirred(small(reads_question=False, top_k=3).build(GRIDS)), features(3)
    boxes = [(0, 0, 1, 1), (0, 0, 0.5, 1)]
    views = Views.of([[View(0, (9, 9), box) for box in boxes], [View(0, (9, 9))]])
    x |= {name: x[name][:2] for name in ("a", "b", "c")}
    out = module(x, views).y_KHWD
    alone = module({name: t[-1:] for name, t in x.items()}, Views.whole(1)).y_KHWD
    torch.testing.assert_close(out[2:], alone, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="grid 8x8 is finer than 4x4 of 'base'"):
        small(grid=[8, 8]).out(GRIDS)
    with pytest.raises(ConfigError, match="encoder 'b' to the grid of 'base': unshuffle"):
        small(resample="unshuffle").out(GRIDS)
    with pytest.raises(ConfigError, match="head_dim 6 is no multiple of 4"):
        small(head_dim=6)
