"""Exact answers of resampling, fusions and projectors, and the errors of designs that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion import Auto, ChannelConcat, FusionConfig, NoFusion, Pool, SequenceAppend, Unshuffle
from ommatidia.models.projector import MLPProjector, PixelShuffleMLP, ProjectorConfig

CLIP, SAM = Grid(24, 24, 1024), Grid(32, 32, 256)

ONE = Views.whole(1)
"""None of these fusions looks at what else is known of the views."""


def test_unshuffle_keeps_every_value_row_by_row() -> None:
    x_BHWD = torch.arange(16.0).view(1, 4, 4, 1)
    out = Unshuffle()(x_BHWD, 2, 2)
    assert out[0, 0, 0].tolist() == [0, 1, 4, 5]
    assert out[0, 1, 0].tolist() == [8, 9, 12, 13]


def test_pool_averages_blocks_and_auto_chooses() -> None:
    x_BHWD = torch.arange(16.0).view(1, 4, 4, 1)
    assert Pool()(x_BHWD, 2, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(Auto()(x_BHWD, 2, 2), Pool()(x_BHWD, 2, 2))
    up = functional.interpolate(x_BHWD.permute(0, 3, 1, 2), (8, 2), mode="bilinear").permute(0, 2, 3, 1)
    assert torch.equal(Auto()(x_BHWD, 8, 2), up)


def test_channel_concat_puts_the_same_place_side_by_side() -> None:
    grids = {"b": Grid(2, 2, 3), "a": Grid(4, 4, 1)}
    config = ChannelConcat(grid=(2, 2), resample_for={"a": Unshuffle()})
    assert config.out(grids) == Grid(2, 2, 7)
    features = {"a": torch.arange(16.0).view(1, 4, 4, 1), "b": torch.zeros(1, 2, 2, 3)}
    out = config.build(grids)(features, ONE).y_KHWD
    assert out[0, 1, 1].tolist() == [0, 0, 0, 10, 11, 14, 15]


def test_sequence_append_stacks_grids_and_learns_only_for_unlike_widths() -> None:
    alike = {"a": Grid(2, 3, 4), "b": Grid(5, 3, 4)}
    assert SequenceAppend().out(alike) == Grid(7, 3, 4)
    features = {"a": torch.ones(1, 2, 3, 4), "b": torch.zeros(1, 5, 3, 4)}
    module = SequenceAppend().build(alike)
    assert list(module.parameters()) == []
    assert torch.equal(module(features, ONE).y_KHWD, torch.cat([features["a"], features["b"]], 1))
    unlike = {"a": Grid(2, 2, 4), "b": Grid(2, 2, 6)}
    assert SequenceAppend().out(unlike) == Grid(4, 2, 6)
    assert SequenceAppend(dim=10).out(unlike) == Grid(4, 2, 10)
    assert SequenceAppend(dim=4).cost(alike).parameters == 2 * (4 * 4 + 4)


def test_order_of_encoders_is_order_of_channels() -> None:
    one = {"a": Grid(1, 1, 1), "b": Grid(1, 1, 1)}
    features = {"a": torch.full((1, 1, 1, 1), 1.0), "b": torch.full((1, 1, 1, 1), 2.0)}
    assert ChannelConcat().build(one)(features, ONE).y_KHWD.flatten().tolist() == [1, 2]
    assert ChannelConcat().build(dict(reversed(one.items())))(features, ONE).y_KHWD.flatten().tolist() == [2, 1]


def test_the_norm_brings_encoders_to_one_scale() -> None:
    grids = {"loud": Grid(2, 2, 8), "soft": Grid(2, 2, 8)}
    features = {"loud": 1000 * torch.randn(1, 2, 2, 8), "soft": 0.01 * torch.randn(1, 2, 2, 8)}
    loud, soft = ChannelConcat(norm=True).build(grids)(features, ONE).y_KHWD.split(8, -1)
    assert loud.std().item() == pytest.approx(soft.std().item(), rel=0.2)


def test_published_projector_shapes() -> None:
    llava = MLPProjector()
    assert llava.cost(Grid(24, 24, 1024), 4096).parameters == 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    intern = PixelShuffleMLP()
    assert intern.out(Grid(32, 32, 1024), 4096) == Grid(16, 16, 4096)


@pytest.mark.parametrize(
    ("config", "grids", "says"),
    [
        (
            ChannelConcat(),
            {"clip": CLIP, "sam": SAM},
            "channel_concat: grid 24x24 of 'clip' and 32x32 of 'sam' differ; give a common grid, e.g. grid: [24, 24]",
        ),
        (
            SequenceAppend(),
            {"clip": CLIP, "sam": SAM},
            "sequence_append: columns of grid 24x24 of 'clip' and 32x32 of 'sam' differ; give a common grid",
        ),
        (NoFusion(), {"clip": CLIP, "sam": SAM}, "exactly one encoder is wanted, got 2 ('clip', 'sam')"),
        (NoFusion(), {}, "got 0"),
        (ChannelConcat(), {}, "there is no encoder"),
        (ChannelConcat(grid=(24, 24), resample="unshuffle"), {"clip": CLIP, "sam": SAM}, "encoder 'sam': unshuffle"),
        (ChannelConcat(resample_for={"clap": "pool"}), {"clip": CLIP}, "did you mean 'clip'"),
    ],
)
def test_impossible_fusions_are_refused_by_name(config: FusionConfig, grids: dict[str, Grid], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.out(grids)
    assert says in str(error.value)
    with pytest.raises(ConfigError):
        config.build(grids)


def test_impossible_projectors_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"15x15 is not divisible by factor 2"):
        PixelShuffleMLP().out(Grid(15, 15, 8), 16)
    with pytest.raises(ConfigError, match="did you mean 'pixel_shuffle_mlp'"):
        ProjectorConfig.parse("pixel_shufle_mlp")
    with pytest.raises(ConfigError, match="did you mean 'channel_concat'"):
        FusionConfig.parse({"kind": "chanel_concat"})
