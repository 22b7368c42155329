"""Contracts of every registered fusion, resampling and projector. A new part needs no test here."""

from __future__ import annotations

import pytest
import torch

from ommatidia.core.grid import Grid
from ommatidia.lab.own.joining_contract import JoiningContract
from ommatidia.models.fusion import FusionConfig, ResampleConfig
from ommatidia.models.projector import ProjectorConfig

PARTS = {f"fusion {kind}": JoiningContract.of_fusion(one.tiny()) for kind, one in FusionConfig.kinds().items()}
PARTS |= {f"projector {k}": JoiningContract.of_projector(one.tiny()) for k, one in ProjectorConfig.kinds().items()}


@pytest.mark.parametrize("promise", JoiningContract.checks())
@pytest.mark.parametrize("part", sorted(PARTS))
def test_every_fusion_and_projector_keeps_its_contract(part: str, promise: str) -> None:
    torch.manual_seed(0)
    JoiningContract.checks()[promise](PARTS[part])


@pytest.mark.parametrize("kind", sorted(ResampleConfig.kinds()))
@pytest.mark.parametrize("target", [(2, 2), (4, 8), (1, 4)])
def test_resample(kind: str, target: tuple[int, int]) -> None:
    config, grid = ResampleConfig.kinds()[kind].tiny(), Grid(4, 8, 3)
    assert ResampleConfig.parse(config.to_dict()) == config
    x_BHWD = torch.randn(2, 4, 8, 3, requires_grad=True)
    out, promised = config(x_BHWD, *target), config.out(grid, *target)
    assert out.shape == (2, promised.height, promised.width, promised.dim)
    assert (promised.height, promised.width) == target
    torch.testing.assert_close(out, torch.cat([config(one, *target) for one in x_BHWD.split(1)]))
    if target == (4, 8):
        assert torch.equal(out, x_BHWD)
    out.sum().backward()
    assert x_BHWD.grad is not None
    assert x_BHWD.grad.abs().any()
