"""Convolutional projectors that shrink the grid and keep its geometry: C-Abstractor and LDPv2.

Shapes: B batch, H rows, W columns, D feature channels, E language-model width.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.models.convolution import RegNetStage, regnet_cost
from ommatidia.models.projector.mlp import mlp_cost
from ommatidia.models.projector.projector import ProjectorConfig

Positive = Annotated[int, Field(gt=0)]
_PLACES = "0.places"


class CAbstractor(ProjectorConfig):
    """RegNet blocks, adaptive average pooling to ``grid``, RegNet blocks, then an MLP with SiLU.

    Honeybee (arXiv 2312.06742), and the connector of MM1 with 12 x 12 = 144 tokens; ``positions`` adds a
    learned vector per place of the incoming grid first.
    """

    kind: Literal["c_abstractor"] = "c_abstractor"
    grid: tuple[Positive, Positive] = (12, 12)
    depth: Positive = 3
    """Blocks before the pooling, and as many behind it."""
    hidden: Positive = 1024
    positions: bool = True

    def out(self, grid: Grid, width: int) -> Grid:
        _shrinks("c_abstractor", self.grid, grid)
        return Grid(*self.grid, width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        self.out(grid, width)
        before = RegNetStage(grid.dim, self.hidden, depth=self.depth)
        after = RegNetStage(self.hidden, self.hidden, depth=self.depth)
        readout = (nn.Linear(self.hidden, width), nn.SiLU(), nn.Linear(width, width))
        places = (_Positions(grid),) if self.positions else ()
        return nn.Sequential(*places, before, _Pooled(*self.grid), after, *readout)

    def cost(self, grid: Grid, width: int) -> Cost:
        small = Grid(*self.grid, self.hidden)
        blocks = regnet_cost(grid, self.hidden, depth=self.depth) + regnet_cost(small, self.hidden, depth=self.depth)
        readout = mlp_cost([self.hidden, width, width], tokens=small.tokens)
        return blocks + readout + Cost(grid.values if self.positions else 0)

    def fitted(self, state: dict[str, Tensor], old: Grid, new: Grid) -> dict[str, Tensor]:
        """The places' vectors resampled (bicubic, antialiased), as those of a ViT are."""
        if not self.positions or _PLACES not in state:
            return state
        table_1DHW = state[_PLACES].unflatten(0, (old.height, old.width)).permute(2, 0, 1)[None].float()
        grown_1DHW = functional.interpolate(table_1DHW, (new.height, new.width), mode="bicubic", antialias=True)
        return state | {_PLACES: grown_1DHW[0].permute(1, 2, 0).flatten(0, 1).to(state[_PLACES].dtype)}

    @classmethod
    def tiny(cls) -> Self:
        return cls(grid=(2, 2), depth=2, hidden=8)


class LDPv2(ProjectorConfig):
    """Two Linear layers with GELU, average pooling to ``grid``, and a depthwise 3x3 convolution added to the tokens.

    MobileVLM V2 (arXiv 2402.03766); one of the connectors that Cambrian-1 compares.
    """

    kind: Literal["ldp_v2"] = "ldp_v2"
    grid: tuple[Positive, Positive] = (12, 12)

    def out(self, grid: Grid, width: int) -> Grid:
        _shrinks("ldp_v2", self.grid, grid)
        return Grid(*self.grid, width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        self.out(grid, width)
        layers = (nn.Linear(grid.dim, width), nn.GELU(), nn.Linear(width, width))
        return nn.Sequential(*layers, _Pooled(*self.grid), _Neighbours(width))

    def cost(self, grid: Grid, width: int) -> Cost:
        tokens = self.grid[0] * self.grid[1]
        return mlp_cost([grid.dim, width, width], tokens=grid.tokens) + Cost(10 * width, 18.0 * tokens * width)

    @classmethod
    def tiny(cls) -> Self:
        return cls(grid=(2, 2))


def _shrinks(kind: str, wanted: tuple[int, int], grid: Grid) -> None:
    """Raises ConfigError where pooling would have to invent rows or columns."""
    if wanted[0] > grid.height or wanted[1] > grid.width:
        raise ConfigError(f"{kind}: {wanted[0]}x{wanted[1]} is finer than the grid {grid.height}x{grid.width}")


class _Positions(nn.Module):
    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(grid.tokens, grid.dim))
        self.size = (grid.height, grid.width)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return x_BHWD + self.places.unflatten(0, self.size)


class _Pooled(nn.Module):
    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(x_BHWD.permute(0, 3, 1, 2), self.size).permute(0, 2, 3, 1)


class _Neighbours(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return x_BHWD + self.conv(x_BHWD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
