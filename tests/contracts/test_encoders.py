"""Contracts of every registered encoder kind, every neck and every catalog entry. A new part needs no test here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.lab.own.encoder_contract import EncoderContract, shape_of
from ommatidia.models.vision import CATALOG, EncoderConfig, NeckConfig
from ommatidia.models.vision.measure_catalog import take

KINDS = sorted(EncoderConfig.kinds())
NECKS = sorted(NeckConfig.kinds())


def subject(name: str) -> EncoderConfig:
    """The smallest config of the same code: a kind's ``tiny()``, or a catalog entry's twin with random weights."""
    if name in KINDS:
        return EncoderConfig.kinds()[name].tiny()
    twin = (
        {"image_size": 32, **CATALOG[name].twin()} if CATALOG[name].tiny else {**CATALOG[name].twin(), "image_size": 32}
    )
    return EncoderConfig.parse({**twin, "weights": {"kind": "random", "seed": 3}})


@pytest.fixture(scope="module", params=[*KINDS, *sorted(CATALOG)])
def contract(request: pytest.FixtureRequest) -> EncoderContract:
    return EncoderContract(subject(request.param))


@pytest.mark.parametrize("promise", EncoderContract.checks())
def test_every_encoder_keeps_its_contract(contract: EncoderContract, promise: str) -> None:
    EncoderContract.checks()[promise](contract)


def takes_layers(config: EncoderConfig) -> bool:
    try:
        EncoderConfig.parse({**config.to_dict(), "features": [0, 1]})
    except ConfigError:
        return False
    return True


def test_several_layers_are_joined_along_the_channels(contract: EncoderContract) -> None:
    config = contract.config
    if not takes_layers(config):
        pytest.skip("its features are no list of layers")
    both = EncoderConfig.parse({**config.to_dict(), "features": [0, 1]})
    first = EncoderConfig.parse({**config.to_dict(), "features": [0]})
    with torch.no_grad():
        out = both.build()(contract.pixels(1))
        assert out.shape == shape_of(both.grid(), 1)
        torch.testing.assert_close(
            out[..., : first.grid().dim], first.build()(contract.pixels(1)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_another_size_is_taken_as_the_card_says(name: str) -> None:
    card = CATALOG[name]
    twin = {**card.twin(), "weights": {"kind": "random"}}
    stride = round(take(replace(card, encoder=twin)).stride)
    if card.resizing == "fixed":
        with pytest.raises(ConfigError):
            EncoderConfig.parse({**twin, "image_size": [4 * stride, 6 * stride]}).grid()
        return
    wide = (70, 101) if card.resizing == "any" else (4 * stride, 6 * stride)
    config = EncoderConfig.parse({**twin, "image_size": wide})
    with torch.no_grad():
        assert config.build()(EncoderContract(config).pixels(1)).shape == shape_of(config.grid(), 1)
    if card.resizing != "any":
        assert (config.grid().height, config.grid().width) == (4, 6)
        with pytest.raises(ConfigError, match="not divisible"):
            EncoderConfig.parse({**twin, "image_size": [4 * stride, 6 * stride + 1]}).grid()


@pytest.mark.parametrize("kind", NECKS)
def test_neck(kind: str) -> None:
    neck, grid = NeckConfig.kinds()[kind].tiny(), Grid(5, 4, 12)
    assert NeckConfig.parse(neck.to_dict()) == neck
    module = neck.build(grid)
    x_BHWD = torch.randn(2, 5, 4, 12, requires_grad=True)
    out = module(x_BHWD)
    assert out.shape == shape_of(neck.out(grid), 2)
    out.square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert neck.cost(grid).parameters == sum(p.numel() for p in module.parameters())
    assert_flops(module, x_BHWD.detach()[:1], neck.cost(grid).flops)


def assert_flops(module: nn.Module, x_BHWD: torch.Tensor, expected: float) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x_BHWD)
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.01)
