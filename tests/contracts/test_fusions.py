"""Contracts of every registered fusion, resampling and projector. A new part needs no test here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ommatidia.core.config import Config
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion import FusionConfig, ResampleConfig
from ommatidia.models.projector import ProjectorConfig


@dataclass
class Part:
    """A fusion or a projector behind one face: named grids in, one grid out."""

    config: Config
    grids: dict[str, Grid]
    out: Grid
    cost: Cost
    build: Callable[[], nn.Module]
    single: bool = False

    def inputs(self, batch: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(7)
        return {n: torch.randn(batch, g.height, g.width, g.dim, generator=generator) for n, g in self.grids.items()}

    def run(self, module: nn.Module, features: dict[str, Tensor]) -> Tensor:
        if self.single:
            return module(features["x"])
        return module(features, Views.whole(len(next(iter(features.values()))))).y_KHWD


def fusion(config: FusionConfig) -> Part:
    grids = config.tiny_grids()
    return Part(config, grids, config.out(grids), config.cost(grids), lambda: config.build(grids))


def projector(config: ProjectorConfig) -> Part:
    grid = Grid(4, 4, 12)
    return Part(config, {"x": grid}, config.out(grid, 24), config.cost(grid, 24), lambda: config.build(grid, 24), True)


PARTS = {f"fusion {kind}": fusion(member.tiny()) for kind, member in FusionConfig.kinds().items()}
PARTS |= {f"projector {kind}": projector(member.tiny()) for kind, member in ProjectorConfig.kinds().items()}


@pytest.fixture(params=sorted(PARTS))
def part(request: pytest.FixtureRequest) -> Part:
    torch.manual_seed(0)
    return PARTS[request.param]


def test_forward_has_the_promised_shape(part: Part) -> None:
    out = part.run(part.build(), part.inputs(2))
    assert out.shape == (2, part.out.height, part.out.width, part.out.dim)


def test_gradient_reaches_every_parameter_and_input(part: Part) -> None:
    module = part.build()
    features = {name: x.requires_grad_() for name, x in part.inputs(2).items()}
    out = part.run(module, features)
    (out * torch.randn_like(out)).sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().any()] == []
    assert all(x.grad is not None and x.grad.abs().any() for x in features.values())


def test_a_view_does_not_depend_on_its_batch(part: Part) -> None:
    module, both = part.build(), part.inputs(2)
    alone = [part.run(module, {name: x[i : i + 1] for name, x in both.items()}) for i in range(2)]
    torch.testing.assert_close(part.run(module, both), torch.cat(alone))


def test_frozen_is_bit_identical_after_others_have_learned(part: Part) -> None:
    module = part.build().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    features = {name: nn.Parameter(x) for name, x in part.inputs(2).items()}
    part.run(module, features).square().sum().backward()
    torch.optim.AdamW(features.values(), lr=0.1).step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_state_and_config_round_trips(part: Part) -> None:
    module, other = part.build(), part.build()
    other.load_state_dict(module.state_dict())
    assert torch.equal(part.run(module, part.inputs(1)), part.run(other, part.inputs(1)))
    again = type(part.config).parse(part.config.to_dict())
    assert again == part.config
    assert again.digest() == part.config.digest()


def test_same_generator_same_weights(part: Part) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(part.build().state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_cost(part: Part) -> None:
    module = part.build()
    assert part.cost.parameters == sum(p.numel() for p in module.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        part.run(module, part.inputs(1))
    assert part.cost.flops == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_bf16_stays_close_to_fp32(part: Part) -> None:
    module = part.build()
    exact = part.run(module, part.inputs(2))
    with torch.autocast("cpu", torch.bfloat16):
        rough = part.run(module, part.inputs(2)).float()
    assert (rough - exact).norm() <= 0.02 * exact.norm()


@pytest.mark.parametrize("kind", sorted(FusionConfig.kinds()))
def test_a_fusion_does_not_care_in_what_order_features_arrive(kind: str) -> None:
    part = PARTS[f"fusion {kind}"]
    module, features = part.build(), part.inputs(1)
    assert torch.equal(part.run(module, features), part.run(module, dict(reversed(features.items()))))


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
