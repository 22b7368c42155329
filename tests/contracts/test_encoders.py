"""Contracts of every registered encoder kind, every neck and every catalog entry. A new part needs no test here."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.models.vision import CATALOG, EncoderConfig, NeckConfig, VisionEncoder
from ommatidia.models.vision.measure_catalog import take
from ommatidia.train.freeze import freeze, select

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


def pixels(config: EncoderConfig, batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, *config.preprocess().size, generator=torch.Generator().manual_seed(5))


def shape(grid: Grid, batch: int) -> tuple[int, ...]:
    return (batch, grid.height, grid.width, grid.dim)


@pytest.fixture(scope="module", params=[*KINDS, *sorted(CATALOG)])
def config(request: pytest.FixtureRequest) -> EncoderConfig:
    return subject(request.param)


@pytest.fixture(scope="module")
def encoder(config: EncoderConfig) -> VisionEncoder:
    return config.build()


def test_forward_has_the_shape_that_the_config_promises(config: EncoderConfig, encoder: VisionEncoder) -> None:
    with torch.no_grad():
        features = encoder.features(pixels(config, 2))
        assert features.shape == shape(config.trunk_grid(), 2)
        assert encoder(pixels(config, 2)).shape == shape(config.grid(), 2)
    assert torch.isfinite(features).all()


def test_gradient_reaches_every_parameter(config: EncoderConfig, encoder: VisionEncoder) -> None:
    encoder.zero_grad()
    out = encoder(pixels(config, 2))
    if out.requires_grad:
        (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(6))).sum().backward()
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert silent == []
    encoder.zero_grad()


def test_a_view_does_not_depend_on_its_batch(config: EncoderConfig, encoder: VisionEncoder) -> None:
    encoder.train()
    with torch.no_grad():
        together = encoder(pixels(config, 2))
        alone = torch.cat([encoder(one) for one in pixels(config, 2).split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_while_it_trains_a_view_is_seen_as_when_it_is_served(config: EncoderConfig, encoder: VisionEncoder) -> None:
    """Also where norms of the trunk have statistics: training neither uses those of the batch nor changes its own."""
    parts = {"encoders.eye": encoder}
    if not list(encoder.parameters()):
        return
    buffers = {name: tensor.clone() for name, tensor in encoder.named_buffers()}
    with torch.no_grad():
        served = encoder.eval()(pixels(config, 2))
        freeze(parts, select(parts, {"*": 1e-3}))
        assert torch.equal(encoder(pixels(config, 2)), served)
        alone = encoder(pixels(config, 2)[:1])
    torch.testing.assert_close(alone, served[:1], rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in encoder.named_buffers())
    assert select(parts, {"*": 1e-3}).buffers == ()


def test_the_cost_counts_the_real_parameters(config: EncoderConfig, encoder: VisionEncoder) -> None:
    assert config.cost().parameters == sum(p.numel() for p in encoder.parameters())
    assert config.cost().flops > 0 or not list(encoder.parameters())


def test_same_config_same_trunk_and_the_ambient_generator_stays(config: EncoderConfig, encoder: VisionEncoder) -> None:
    before = torch.get_rng_state()
    again = config.trunk(pretrained=False) if not list(encoder.parameters()) else config.build().trunk
    if not list(encoder.neck.parameters()):
        assert torch.equal(before, torch.get_rng_state())
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, encoder.trunk.state_dict()[name]), name


def test_state_round_trip(config: EncoderConfig, encoder: VisionEncoder) -> None:
    other = config.build(pretrained=False)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(1.0)
        other.load_state_dict(encoder.state_dict())
        assert torch.equal(other(pixels(config, 1)), encoder(pixels(config, 1)))
    assert all(tensor.is_contiguous() for tensor in encoder.state_dict().values())


def test_config_round_trip(config: EncoderConfig) -> None:
    again = EncoderConfig.parse(config.to_dict())
    assert again == config
    assert again.digest() == config.digest()
    assert again.trunk_digest() == config.trunk_digest()


def test_the_trunk_digest_leaves_the_neck_out_and_nothing_else(config: EncoderConfig) -> None:
    data = config.to_dict()
    other_neck = EncoderConfig.parse({**data, "neck": {"kind": "linear", "dim": 7}})
    assert other_neck.trunk_digest() == config.trunk_digest()
    assert other_neck.digest() != config.digest()
    other_seed = EncoderConfig.parse({**data, "weights": {"kind": "random", "seed": 99}})
    assert other_seed.trunk_digest() != config.trunk_digest()
    other_fit = "crop" if data["fit"] == "stretch" else "stretch"
    assert EncoderConfig.parse({**data, "fit": other_fit}).trunk_digest() != config.trunk_digest()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (37, 21), (500, 3)])
def test_preprocess_takes_any_picture(config: EncoderConfig, size: tuple[int, int]) -> None:
    preprocess = config.preprocess()
    tensor = preprocess(Image.new("RGB", size, (200, 10, 10)))
    assert tensor.shape == (3, *preprocess.size)
    assert tensor.dtype == torch.float32
    assert torch.isfinite(tensor).all()


def test_a_trunk_with_blocks_can_be_steered_behind_each(config: EncoderConfig, encoder: VisionEncoder) -> None:
    if not getattr(encoder.trunk, "depth", 0):
        with pytest.raises(ConfigError, match="its trunk is no row of equal blocks"):
            config.blocks()
        return
    blocks = config.blocks()
    x, seen = pixels(config, 2), []

    def note(x_BHWD: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x_BHWD.shape))
        return x_BHWD

    with torch.no_grad():
        plain = encoder.features(x)
        assert torch.equal(encoder.features(x, dict.fromkeys(range(blocks.count), note)), plain)
        assert seen == [shape(blocks.grid, 2)] * blocks.count
        for block in range(blocks.count):
            assert not torch.allclose(encoder.features(x, {block: lambda x_BHWD: x_BHWD.flip(-1)}), plain, atol=1e-4)
        assert torch.equal(encoder.features(x), plain)


def test_bf16_stays_close_to_fp32(config: EncoderConfig, encoder: VisionEncoder) -> None:
    with torch.no_grad():
        exact = encoder(pixels(config, 2))
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(pixels(config, 2)).float()
        rougher = copy.deepcopy(encoder).to(torch.bfloat16).features(pixels(config, 2)).float()
        whole = encoder.features(pixels(config, 2))
    assert (rough - exact).norm() <= 0.05 * exact.norm()
    assert (rougher - whole).norm() <= 0.05 * whole.norm()


def test_a_frozen_trunk_is_bit_identical_after_the_neck_has_learned(config: EncoderConfig) -> None:
    config = EncoderConfig.parse({**config.to_dict(), "neck": {"kind": "linear", "dim": 8, "final_norm": False}})
    encoder = config.build().train()
    encoder.trunk.requires_grad_(False)
    trunk = {name: tensor.clone() for name, tensor in encoder.trunk.state_dict().items()}
    neck = {name: tensor.clone() for name, tensor in encoder.neck.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    encoder(pixels(config, 2)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(tensor, trunk[name]) for name, tensor in encoder.trunk.state_dict().items())
    assert not any(torch.equal(tensor, neck[name]) for name, tensor in encoder.neck.state_dict().items())


def takes_layers(config: EncoderConfig) -> bool:
    try:
        EncoderConfig.parse({**config.to_dict(), "features": [0, 1]})
    except ConfigError:
        return False
    return True


def test_several_layers_are_joined_along_the_channels(config: EncoderConfig) -> None:
    if not takes_layers(config):
        pytest.skip("its features are no list of layers")
    both = EncoderConfig.parse({**config.to_dict(), "features": [0, 1]})
    first = EncoderConfig.parse({**config.to_dict(), "features": [0]})
    with torch.no_grad():
        out = both.build()(pixels(config, 1))
        assert out.shape == shape(both.grid(), 1)
        torch.testing.assert_close(out[..., : first.grid().dim], first.build()(pixels(config, 1)), rtol=1e-4, atol=1e-4)


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
        assert config.build()(pixels(config, 1)).shape == shape(config.grid(), 1)
    if card.resizing != "any":
        assert (config.grid().height, config.grid().width) == (4, 6)
        with pytest.raises(ConfigError, match="not divisible"):
            EncoderConfig.parse({**twin, "image_size": [4 * stride, 6 * stride + 1]}).grid()


@pytest.mark.parametrize("kind", KINDS)
def test_stored_features_give_the_same_output(kind: str) -> None:
    config = EncoderConfig.parse({**subject(kind).to_dict(), "neck": {"kind": "linear", "dim": 8}})
    encoder = config.build()
    with torch.no_grad():
        assert torch.equal(encoder.refine(encoder.features(pixels(config, 2))), encoder(pixels(config, 2)))


@pytest.mark.parametrize("kind", NECKS)
def test_neck(kind: str) -> None:
    neck, grid = NeckConfig.kinds()[kind].tiny(), Grid(5, 4, 12)
    assert NeckConfig.parse(neck.to_dict()) == neck
    module = neck.build(grid)
    x_BHWD = torch.randn(2, 5, 4, 12, requires_grad=True)
    out = module(x_BHWD)
    assert out.shape == shape(neck.out(grid), 2)
    out.square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert neck.cost(grid).parameters == sum(p.numel() for p in module.parameters())
    assert_flops(module, x_BHWD.detach()[:1], neck.cost(grid).flops)


def assert_flops(module: nn.Module, x_BHWD: torch.Tensor, expected: float) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x_BHWD)
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.01)
