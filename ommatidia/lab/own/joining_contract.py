"""What every fusion and projector keeps: the grid it promises, gradients to every encoder, its stated cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ommatidia.core.config import Config
from ommatidia.core.grid import Blocks, Cost, Grid
from ommatidia.core.types import Views
from ommatidia.lab.own.contract import (
    Contract,
    check,
    expect,
    expect_close,
    expect_gradients,
    expect_unchanged,
    off_zero,
    state_of,
)
from ommatidia.models.fusion import BlockEdits, Fusion, FusionConfig
from ommatidia.models.fusion.fusion import FusionContext
from ommatidia.models.projector import ProjectorConfig

BLOCKS = 5
QUESTION = 16
"""Width of the question's embedding, for fusions that read it."""
WIDTH = 24
"""Of the language model that a projector reaches."""


@dataclass
class JoiningContract(Contract):
    """Checks of a fusion or a projector, behind one face: named grids in, one grid out."""

    config: Config
    grids: Mapping[str, Grid]
    out: Grid
    stated: Cost
    build: Callable[[], nn.Module]
    forward: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]

    @classmethod
    def of_fusion(cls, config: FusionConfig) -> Self:
        """On the grids of its ``tiny_grids()``."""
        grids = config.tiny_grids()
        blocks = {name: Blocks(BLOCKS, grids[name]) for name in config.steered(tuple(grids))}
        context, names = FusionContext(QUESTION, blocks), tuple(grids)
        out, cost = config.out(grids), config.cost(grids, context)
        return cls(
            config, grids, out, cost, lambda: off_zero(config.build(grids, context)), partial(_run_fusion, names)
        )

    @classmethod
    def of_projector(cls, config: ProjectorConfig) -> Self:
        """On the grid of its ``tiny_grid()``, into a language model of width 24."""
        grid = config.tiny_grid()
        out, cost = config.out(grid, WIDTH), config.cost(grid, WIDTH)
        return cls(config, {"x": grid}, out, cost, lambda: config.build(grid, WIDTH), lambda module, x: module(x["x"]))

    def inputs(self, batch: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(7)
        return {n: torch.randn(batch, g.height, g.width, g.dim, generator=generator) for n, g in self.grids.items()}

    def run(self, module: nn.Module, features: Mapping[str, Tensor]) -> Tensor:
        return self.forward(module, features)

    @check
    def promised_shape(self) -> None:
        """forward has the promised shape"""
        out, wanted = self.run(self.build(), self.inputs(2)), (2, self.out.height, self.out.width, self.out.dim)
        expect(out.shape == wanted, f"forward gives the shape {tuple(out.shape)}, out() promised {wanted}")

    @check
    def gradients(self) -> None:
        """gradient reaches every parameter and input"""
        module = self.build()
        features = {name: x.requires_grad_() for name, x in self.inputs(2).items()}
        out = self.run(module, features)
        (out * torch.randn_like(out)).sum().backward()
        expect_gradients(module)
        silent = [name for name, x in features.items() if x.grad is None or not x.grad.abs().any()]
        expect(not silent, f"no gradient reaches the features of {', '.join(silent)}")

    @check
    def batch_independence(self) -> None:
        """a view does not depend on its batch"""
        module, both = self.build(), self.inputs(2)
        alone = [self.run(module, {name: x[i : i + 1] for name, x in both.items()}) for i in range(2)]
        expect_close(self.run(module, both), torch.cat(alone), "two views together, and each alone", tolerance=1e-5)

    @check
    def frozen(self) -> None:
        """frozen, it is bit-identical after others have learned"""
        module = self.build().requires_grad_(False)
        before = state_of(module)
        features = {name: nn.Parameter(x) for name, x in self.inputs(2).items()}
        self.run(module, features).square().sum().backward()
        torch.optim.AdamW(features.values(), lr=0.1).step()
        expect_unchanged(module, before)

    @check
    def round_trips(self) -> None:
        """its state and its config are written and read again"""
        module, other = self.build(), self.build()
        other.load_state_dict(module.state_dict())
        same = torch.equal(self.run(module, self.inputs(1)), self.run(other, self.inputs(1)))
        expect(same, "another with its state gives another output")
        again = type(self.config).parse(self.config.to_dict())
        expect(again == self.config, "the config that is read is not the one that was written")
        expect(again.digest() == self.config.digest(), "its digest is another")

    @check
    def same_weights(self) -> None:
        """same generator, same weights"""
        states = []
        for _ in range(2):
            torch.manual_seed(11)
            states.append(self.build().state_dict())
        unlike = [name for name, tensor in states[0].items() if not torch.equal(tensor, states[1][name])]
        expect(not unlike, f"built twice under one seed, it differs in {', '.join(unlike[:5])}")

    @check
    def cost(self) -> None:
        """its cost is what PyTorch counts"""
        module = self.build()
        held = sum(p.numel() for p in module.parameters())
        expect(self.stated.parameters == held, f"cost() says {self.stated.parameters:,} parameters, it has {held:,}")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.run(module, self.inputs(1))
        counted = counter.get_total_flops()
        within = abs(self.stated.flops - counted) <= 0.01 * counted
        expect(within, f"cost() says {self.stated.flops:,.0f} operations, PyTorch counts {counted:,.0f}")

    @check
    def bf16(self) -> None:
        """bf16 stays close to fp32"""
        module = self.build()
        exact = self.run(module, self.inputs(2))
        with torch.autocast("cpu", torch.bfloat16):
            rough = self.run(module, self.inputs(2)).float()
        expect((rough - exact).norm() <= 0.02 * exact.norm(), "under autocast it is off by more than 2 %")

    @check
    def order_of_arrival(self) -> None:
        """it does not care in what order features arrive"""
        module, features = self.build(), self.inputs(1)
        reversed_ = dict(reversed(features.items()))
        expect(torch.equal(self.run(module, features), self.run(module, reversed_)), "another order changes its output")


def _run_fusion(names: tuple[str, ...], module: nn.Module, features: Mapping[str, Tensor]) -> Tensor:
    expect(isinstance(module, Fusion), f"build() gives a {type(module).__name__}, expected a Fusion")
    assert isinstance(module, Fusion)
    views = Views.whole(len(next(iter(features.values()))), (48, 64))
    asked = views.asked(torch.linspace(-1, 1, QUESTION).expand(len(views), -1))
    return module(module.encode(names, partial(_look, features)), asked).y_KHWD


def _look(features: Mapping[str, Tensor], name: str, between: BlockEdits | None = None) -> Tensor:
    """An encoder whose blocks pass on what they get."""
    x_KHWD = features[name]
    for block in range(BLOCKS):
        x_KHWD = (between or {}).get(block, lambda x: x)(x_KHWD)
    return x_KHWD
