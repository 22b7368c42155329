"""The mixture-of-resolution adaptation of LLaVA-HR (arXiv 2403.03003, section 3): a fast encoder that sees the image
at low resolution is steered, between its blocks, by the map of a slow one that sees it at high resolution.

Names follow the published checkpoint, 1x1 convolutions as linear layers: ``align_stages_latent.i`` is ``adapters.i``,
``align_stages.0`` is ``merge``; ``slow`` stands for the slow encoder's name.
Shapes: K views, H rows, W columns, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Blocks, Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion.fusion import NO_CONTEXT, Fused, Fusion, FusionConfig, FusionContext, RunEncoder
from ommatidia.models.fusion.resample import Bilinear, Pool
from ommatidia.models.fusion.sketch import Box, Sketch

_KERNEL = 7


class MixtureOfResolution(FusionConfig):
    """The first encoder is the fast one, all others are slow. As many visual tokens as the fast encoder has.

    The fast encoder's blocks are split into ``adapters`` + 1 equal parts, with an adapter behind each but the last; at
    the start an adapter changes nothing. Zero adapters: only the merge at the end, LLaVA-HR's first stage.
    With several slow encoders (our generalisation) each has its own adapters, and their changes add up.
    A slow map meets the fast grid by averaging where it is finer in both directions (whatever the ratio), and otherwise
    by bilinear interpolation with aligned corners; the original stops where the ratio is not whole.
    """

    paper: ClassVar[str] = "LLaVA-HR (arXiv 2403.03003), section 3"
    kind: Literal["mixture_of_resolution"] = "mixture_of_resolution"
    adapters: Annotated[int, Field(ge=0)] = 3

    def steered(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset(names[:1]) if self.adapters else frozenset()

    def check(self, context: FusionContext) -> None:
        """Raises ConfigError for fewer blocks than parts."""
        for name, found in context.blocks.items():
            if found.count <= self.adapters:
                raise ConfigError(
                    f"mixture_of_resolution: {self.adapters} adapters need at least {self.adapters + 1} blocks, "
                    f"but {name!r} has {found.count}"
                )

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        if len(grids) < 2:
            names = ", ".join(repr(name) for name in grids) or "none"
            raise ConfigError(f"mixture_of_resolution: a fast and a slow encoder are wanted, got {names}")
        return next(iter(grids.values()))

    def _fast_blocks(self, context: FusionContext) -> Blocks:
        """Of the encoder that is steered. Raises ConfigError where the context does not say, or there are too few."""
        self.check(context)
        if not context.blocks:
            raise ConfigError("mixture_of_resolution: the fast encoder's blocks are not known; say them in the context")
        return next(iter(context.blocks.values()))

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        fast = self.out(grids)
        slow = dict(list(grids.items())[1:])
        if not self.adapters:
            return _Mixture(fast, slow, blocks=(), width=0)
        parts, blocks = self.adapters + 1, self._fast_blocks(context)
        behind = tuple(blocks.count * part // parts - 1 for part in range(1, parts))
        return _Mixture(fast, slow, blocks=behind, width=blocks.grid.dim)

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        fast, total = self.out(grids), Cost()
        total += Cost(fast.dim**2 + fast.dim, 2.0 * fast.tokens * fast.dim**2)
        for slow in list(grids.values())[1:]:
            total += Cost(slow.dim * fast.dim + fast.dim, 2.0 * slow.tokens * slow.dim * fast.dim)
            if self.adapters:
                one = _adapter_cost(self._fast_blocks(context).grid, slow)
                total += Cost(self.adapters * one.parameters, self.adapters * one.flops)
        return total

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        fast, *slow = grids
        parts = Box(f"{self.adapters + 1} parts of blocks", f"{self.adapters} adapters between")
        own: tuple[Box, ...] = (parts, Box("Linear")) if self.adapters else (Box("Linear"),)
        lanes = {fast: own, **{name: (Box("Linear"),) for name in slow}}
        join, steered = Box("sum", "on the fast grid", learned=False), fast if self.adapters else None
        return Sketch(join, lanes, tiles="enriched", steered=steered)

    @classmethod
    def example(cls) -> tuple[FusionConfig, dict[str, Grid]]:
        grids = {"clip": Grid(32, 32, 1024), "convnext": Grid(32, 32, 1536)}
        return cls(), grids

    @classmethod
    def tiny(cls) -> Self:
        return cls(adapters=2)


class _Mixture(Fusion):
    def __init__(self, fast: Grid, slow: Mapping[str, Grid], *, blocks: Sequence[int], width: int) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.adapters = nn.ModuleList(
            nn.ModuleDict({name: Adapter(width, grid.dim) for name, grid in slow.items()}) for _ in blocks
        )
        self.merge = nn.ModuleDict(
            {
                "fast_proj": nn.Linear(fast.dim, fast.dim),
                "slow_proj": nn.ModuleDict({name: nn.Linear(grid.dim, fast.dim) for name, grid in slow.items()}),
            }
        )

    def encode(self, names: Sequence[str], look: RunEncoder) -> dict[str, Tensor]:
        fast, *slow = names
        maps = {name: look(name) for name in slow}
        if not self.blocks:
            return {fast: look(fast), **maps}
        steps = {block: partial(self._steer, number, maps) for number, block in enumerate(self.blocks)}
        return {fast: look(fast, steps), **maps}

    def _steer(self, number: int, maps: Mapping[str, Tensor], x_KHWD: Tensor) -> Tensor:
        adapters = cast(nn.ModuleDict, self.adapters[number])
        return x_KHWD + sum(adapter(x_KHWD, maps[name]) for name, adapter in adapters.items())

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        slow = cast(nn.ModuleDict, self.merge["slow_proj"])
        (fast,) = features.keys() - slow.keys()
        y_KHWD = self.merge["fast_proj"](features[fast])
        for name, projection in slow.items():
            y_KHWD = y_KHWD + _aligned(projection(features[name]), y_KHWD)
        return Fused(y_KHWD)


class Adapter(nn.Module):
    """What one slow map changes in the fast features: a convolution's view of them, and the gated slow map.

    Both end in layers that start at zero; the gate does not, so that they learn from the first step.
    """

    def __init__(self, fast: int, slow: int) -> None:
        super().__init__()
        self.slow_conv = nn.Linear(slow, slow)
        self.slow_proj = nn.Linear(slow, fast)
        self.fast_conv = nn.Conv2d(fast, fast, _KERNEL, padding=_KERNEL // 2, groups=fast)
        self.fast_proj = nn.Linear(fast, fast)
        self.gate = nn.Sequential(nn.Linear(2 * fast, fast // 2), nn.GELU(), nn.Linear(fast // 2, 1))
        for first in (self.slow_conv, self.fast_conv):
            nn.init.xavier_uniform_(first.weight)
            nn.init.zeros_(first.bias)  # type: ignore[arg-type]
        for last in (self.slow_proj, self.fast_proj):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x_KHWD: Tensor, slow_KHWD: Tensor) -> Tensor:
        h_KHWD = _aligned(self.slow_proj(functional.gelu(self.slow_conv(slow_KHWD))), x_KHWD)
        looked_KHWD = self.fast_conv(x_KHWD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        change_KHWD = self.fast_proj(functional.gelu(looked_KHWD))
        means_KD = torch.cat([x_KHWD + change_KHWD, h_KHWD], -1).mean((1, 2))
        gate_K11D = torch.tanh(self.gate(means_KD))[:, None, None]
        return change_KHWD + gate_K11D * h_KHWD


def _aligned(x_KHWD: Tensor, like_KHWD: Tensor) -> Tensor:
    """A slow map on the grid of the fast one."""
    height, width = like_KHWD.shape[1:3]
    finer = x_KHWD.shape[1] >= height and x_KHWD.shape[2] >= width
    return (Pool() if finer else Bilinear(align_corners=True))(x_KHWD, height, width)


def _adapter_cost(fast: Grid, slow: Grid) -> Cost:
    on_slow, hidden = slow.dim**2 + slow.dim * fast.dim, fast.dim // 2
    on_fast, gate = _KERNEL**2 * fast.dim + fast.dim**2, 2 * fast.dim * hidden + hidden
    biases = slow.dim + 3 * fast.dim + hidden + 1
    return Cost(on_slow + on_fast + gate + biases, 2.0 * (slow.tokens * on_slow + fast.tokens * on_fast + gate))
