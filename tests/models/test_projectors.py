"""Projectors that shrink or give up the grid: exact answers and published sizes."""

from __future__ import annotations

import pytest
import torch

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.models.projector import CAbstractor, Identity, LDPv2, Perceiver, PoolMLP, ProjectorConfig, QFormer

CLIP = Grid(27, 27, 1280)


@pytest.mark.parametrize("kind", ["c_abstractor", "ldp_v2", "pool_mlp"])
def test_any_grid_shrinks_to_the_tokens_asked_for(kind: str) -> None:
    config = ProjectorConfig.parse({"kind": kind, "grid": [12, 12]})
    assert config.out(CLIP, 4096) == Grid(12, 12, 4096)  # MM1's final connector: 27x27 to 144
    with pytest.raises(ConfigError, match=rf"{kind}: 12x12 is finer than the grid 9x27"):
        config.out(Grid(9, 27, 8), 16)


@pytest.mark.parametrize("config", [Perceiver.tiny(), QFormer.tiny()], ids=lambda c: c.kind)
def test_queries_see_a_set(config: ProjectorConfig) -> None:
    module, x_BHWD = config.build(Grid(3, 4, 12), 24), torch.randn(1, 3, 4, 12)
    torch.testing.assert_close(module(x_BHWD.flip(1, 2)), module(x_BHWD), atol=1e-5, rtol=1e-5)
    assert module(x_BHWD).shape == (1, 1, 5, 24)


def test_the_q_former_is_blip_2s() -> None:
    # BERT-base's twelve layers, a cross-attention in six of them, over 1408 channels of EVA-CLIP-g; 32 queries.
    layers, reading = 12 * 7_087_872, 6 * (2 * 768**2 + 2 * 1408 * 768 + 3 * 768 + 2 * 768)
    rest = 32 * 768 + 2 * 768 + 2 * 1408 + 768 * 2560 + 2560
    keys = 12 * 768  # biases of the keys in self-attention, which cancel
    assert QFormer().cost(Grid(16, 16, 1408), 2560).parameters == layers + reading + rest - keys


def test_convolutions_know_where_they_are() -> None:
    x_BHWD = torch.zeros(1, 8, 8, 6)
    x_BHWD[0, 7, 7] = 5.0
    for config in (CAbstractor(grid=(4, 4), depth=1, hidden=8), LDPv2(grid=(4, 4))):
        module = config.build(Grid(8, 8, 6), 10)
        change = (module(x_BHWD) - module(torch.zeros_like(x_BHWD))).abs().sum(-1)[0]
        assert change[3, 3] > 2 * change[0, 0]


def test_pooling_averages_and_identity_wants_the_width() -> None:
    config = PoolMLP(grid=(1, 2), depth=1)
    module, x_BHWD = config.build(Grid(2, 4, 3), 5), torch.randn(1, 2, 4, 3)
    linear = module[1]
    torch.testing.assert_close(module(x_BHWD)[0, 0, 0], linear(x_BHWD[0, :, :2].mean((0, 1))))
    assert Identity().out(Grid(2, 2, 16), 16) == Grid(2, 2, 16)
    with pytest.raises(ConfigError, match="features are 8 wide and the language model 16"):
        Identity().out(Grid(2, 2, 8), 16)


@pytest.mark.parametrize("kind", ["q_former", "resampler"])
def test_heads_divide_the_width(kind: str) -> None:
    from ommatidia.models.fusion import FusionConfig

    family: type[ProjectorConfig | FusionConfig] = ProjectorConfig if kind == "q_former" else FusionConfig
    with pytest.raises(ConfigError, match=f"{kind}: dim 768 is no multiple of 7 heads"):
        family.parse({"kind": kind, "heads": 7})
