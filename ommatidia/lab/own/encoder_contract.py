"""What every vision encoder keeps: shapes known beforehand, gradients, freezing, one view apart from its batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
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
from ommatidia.models.vision import EncoderConfig, VisionEncoder
from ommatidia.train.freeze import freeze, select

_SIZES = ((1, 1), (1, 300), (37, 21), (500, 3))
"""(width, height) of images that a preprocessing must take."""


def shape_of(grid: Grid, batch: int) -> tuple[int, ...]:
    """Of features x_BHWD on a grid."""
    return (batch, grid.height, grid.width, grid.dim)


@dataclass
class EncoderContract(Contract):
    """Checks of one small encoder, such as a kind's ``tiny()``."""

    config: EncoderConfig

    @cached_property
    def encoder(self) -> VisionEncoder:
        return self.config.build()

    def pixels(self, batch: int) -> Tensor:
        return torch.randn(batch, 3, *self.config.preprocess().size, generator=torch.Generator().manual_seed(5))

    @property
    def learns(self) -> bool:
        """Whether it has anything to train."""
        return bool(list(self.encoder.parameters()))

    @check
    def promised_shape(self) -> None:
        """forward has the shape that the config promises"""
        with torch.no_grad():
            features = self.encoder.features(self.pixels(2))
            trunk, grid = shape_of(self.config.trunk_grid(), 2), shape_of(self.config.grid(), 2)
            expect(features.shape == trunk, f"features have the shape {tuple(features.shape)}, promised {trunk}")
            out = self.encoder(self.pixels(2))
            expect(out.shape == grid, f"forward gives the shape {tuple(out.shape)}, promised {grid}")
        expect(torch.isfinite(features).all(), "features are not finite")

    @check
    def gradients(self) -> None:
        """gradient reaches every parameter"""
        encoder = off_zero(copy.deepcopy(self.encoder))
        out = encoder(self.pixels(2))
        if out.requires_grad:
            (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(6))).sum().backward()
        expect_gradients(encoder)

    @check
    def batch_independence(self) -> None:
        """a view does not depend on its batch"""
        self.encoder.train()
        with torch.no_grad():
            alone = torch.cat([self.encoder(one) for one in self.pixels(2).split(1)])
            expect_close(self.encoder(self.pixels(2)), alone, "two views together, and each alone")

    @check
    def trains_as_served(self) -> None:
        """while it trains, a view is seen as when it is served"""
        parts, encoder = {"encoders.eye": self.encoder}, self.encoder
        if not self.learns:
            return
        buffers = {name: tensor.clone() for name, tensor in encoder.named_buffers()}
        with torch.no_grad():
            served = encoder.eval()(self.pixels(2))
            freeze(parts, select(parts, {"*": 1e-3}))
            expect(torch.equal(encoder(self.pixels(2)), served), "the output in training is another")
            expect_close(encoder(self.pixels(2)[:1]), served[:1], "one view alone, and in a batch")
        expect(
            all(torch.equal(tensor, buffers[name]) for name, tensor in encoder.named_buffers()),
            "training changes the statistics of its norms",
        )
        expect(select(parts, {"*": 1e-3}).buffers == (), "its buffers count as trained")

    @check
    def cost(self) -> None:
        """the cost counts the real parameters"""
        held, stated = sum(p.numel() for p in self.encoder.parameters()), self.config.cost()
        expect(stated.parameters == held, f"cost() says {stated.parameters:,} parameters, it has {held:,}")
        expect(stated.flops > 0 or not self.learns, "cost() says no operations")

    @check
    def same_trunk(self) -> None:
        """same config, same trunk, and the ambient generator stays"""
        before = torch.get_rng_state()
        again = self.config.build().trunk if self.learns else self.config.trunk(pretrained=False)
        if not list(self.encoder.neck.parameters()):
            expect(torch.equal(before, torch.get_rng_state()), "building it draws from the ambient generator")
        expect_unchanged(again, state_of(self.encoder.trunk))

    @check
    def state_round_trip(self) -> None:
        """its state goes into another of the same config"""
        other = self.config.build(pretrained=False)
        with torch.no_grad():
            for tensor in other.parameters():
                tensor.add_(1.0)
            other.load_state_dict(self.encoder.state_dict())
            expect(torch.equal(other(self.pixels(1)), self.encoder(self.pixels(1))), "the other gives another output")
        loose = [name for name, tensor in self.encoder.state_dict().items() if not tensor.is_contiguous()]
        expect(not loose, f"not contiguous: {', '.join(loose[:5])}")

    @check
    def config_round_trip(self) -> None:
        """its config is written and read again"""
        again = EncoderConfig.parse(self.config.to_dict())
        expect(again == self.config, "what is read is not what was written")
        expect(again.digest() == self.config.digest(), "the digest is another")
        expect(again.trunk_digest() == self.config.trunk_digest(), "the trunk's digest is another")

    @check
    def trunk_digest(self) -> None:
        """the trunk's digest leaves the neck out and nothing else"""
        data = self.config.to_dict()
        other_neck = EncoderConfig.parse({**data, "neck": {"kind": "linear", "dim": 7}})
        expect(other_neck.trunk_digest() == self.config.trunk_digest(), "another neck changes the trunk's digest")
        expect(other_neck.digest() != self.config.digest(), "another neck does not change the digest")
        other_seed = EncoderConfig.parse({**data, "weights": {"kind": "random", "seed": 99}})
        expect(other_seed.trunk_digest() != self.config.trunk_digest(), "other weights do not change the digest")
        other_fit = EncoderConfig.parse({**data, "fit": "crop" if data["fit"] == "stretch" else "stretch"})
        expect(other_fit.trunk_digest() != self.config.trunk_digest(), "another fit does not change the digest")

    @check
    def preprocess(self) -> None:
        """preprocessing takes an image of any size"""
        preprocess = self.config.preprocess()
        for size in _SIZES:
            tensor = preprocess(Image.new("RGB", size, (200, 10, 10)))
            expect(tensor.shape == (3, *preprocess.size), f"an image of {size} becomes {tuple(tensor.shape)}")
            expect(tensor.dtype == torch.float32, f"an image becomes {tensor.dtype}")
            expect(torch.isfinite(tensor).all(), f"an image of {size} becomes values that are not finite")

    @check
    def blocks(self) -> None:
        """a trunk with blocks can be steered after each of them"""
        if not getattr(self.encoder.trunk, "depth", 0):
            try:
                self.config.blocks()
            except ConfigError:
                return
            expect(False, "blocks() answers for a trunk without depth")
        blocks, x, seen = self.config.blocks(), self.pixels(2), list[tuple[int, ...]]()

        def note(x_BHWD: Tensor) -> Tensor:
            seen.append(tuple(x_BHWD.shape))
            return x_BHWD

        with torch.no_grad():
            plain = self.encoder.features(x)
            same = self.encoder.features(x, dict.fromkeys(range(blocks.count), note))
            expect(torch.equal(same, plain), "passing its features on changes them")
            expect(seen == [shape_of(blocks.grid, 2)] * blocks.count, "its blocks have other shapes than blocks() says")
            for block in range(blocks.count):
                steered = self.encoder.features(x, {block: lambda x_BHWD: x_BHWD.flip(-1)})
                expect(not torch.allclose(steered, plain, atol=1e-4), f"what is done after block {block} has no effect")
            expect(torch.equal(self.encoder.features(x), plain), "steering leaves something behind")

    @check
    def bf16(self) -> None:
        """bf16 stays close to fp32"""
        with torch.no_grad():
            exact, whole = self.encoder(self.pixels(2)), self.encoder.features(self.pixels(2))
            with torch.autocast("cpu", torch.bfloat16):
                rough = self.encoder(self.pixels(2)).float()
            rougher = copy.deepcopy(self.encoder).to(torch.bfloat16).features(self.pixels(2)).float()
        expect((rough - exact).norm() <= 0.05 * exact.norm(), "under autocast it is off by more than 5 %")
        expect((rougher - whole).norm() <= 0.05 * whole.norm(), "in bf16 it is off by more than 5 %")

    @check
    def frozen_trunk(self) -> None:
        """a frozen trunk is bit-identical after the neck has learned"""
        neck = {"kind": "linear", "dim": 8, "final_norm": False}
        encoder = EncoderConfig.parse({**self.config.to_dict(), "neck": neck}).build().train()
        encoder.trunk.requires_grad_(False)
        trunk, before = state_of(encoder.trunk), state_of(encoder.neck)
        optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
        encoder(self.pixels(2)).square().mean().backward()
        optimizer.step()
        expect_unchanged(encoder.trunk, trunk)
        same = [name for name, tensor in encoder.neck.state_dict().items() if torch.equal(tensor, before[name])]
        expect(not same, f"the neck does not learn: {', '.join(same)}")

    @check
    def stored_features(self) -> None:
        """stored features give the same output"""
        encoder = EncoderConfig.parse({**self.config.to_dict(), "neck": {"kind": "linear", "dim": 8}}).build()
        with torch.no_grad():
            through = encoder.refine(encoder.features(self.pixels(2)))
            expect(torch.equal(through, encoder(self.pixels(2))), "refine(features(x)) is not forward(x)")
