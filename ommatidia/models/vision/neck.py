"""Necks: the trainable end of an encoder. A frozen trunk's features may be stored; the neck learns on top of them.

Shapes: B batch, H rows, W columns, D channels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.grid import Cost, Grid

Positive = Annotated[int, Field(gt=0)]


class NeckConfig(Config, family=True):
    """Maps the trunk's grid x_BHWD to the encoder's grid. Weights are drawn from the ambient generator."""

    @abstractmethod
    def out(self, grid: Grid) -> Grid:
        """The grid that leaves the neck."""

    @abstractmethod
    def build(self, grid: Grid) -> nn.Module:
        """A module x_BHWD -> x_BHWD for features of the shape ``grid``."""

    @abstractmethod
    def cost(self, grid: Grid) -> Cost:
        """Parameters, and operations for one view."""

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()


class NoNeck(NeckConfig):
    """The trunk's features as they are."""

    kind: Literal["none"] = "none"

    def out(self, grid: Grid) -> Grid:
        return grid

    def build(self, grid: Grid) -> nn.Module:
        return nn.Identity()

    def cost(self, grid: Grid) -> Cost:
        return Cost()


class LinearNeck(NeckConfig):
    """LayerNorm -> Linear -> GELU -> Linear [-> LayerNorm], the same for every position."""

    kind: Literal["linear"] = "linear"
    dim: Positive = 256
    hidden: Positive | None = None
    """Width between the two layers; None: ``dim``."""
    final_norm: bool = True

    def out(self, grid: Grid) -> Grid:
        return grid.with_dim(self.dim)

    def build(self, grid: Grid) -> nn.Module:
        hidden = self.hidden or self.dim
        layers = [nn.LayerNorm(grid.dim), nn.Linear(grid.dim, hidden), nn.GELU(), nn.Linear(hidden, self.dim)]
        return nn.Sequential(*layers, *([nn.LayerNorm(self.dim)] if self.final_norm else []))

    def cost(self, grid: Grid) -> Cost:
        hidden = self.hidden or self.dim
        weights = grid.dim * hidden + hidden * self.dim
        norms = 2 * grid.dim + (2 * self.dim if self.final_norm else 0)
        return Cost(weights + hidden + self.dim + norms, 2.0 * grid.tokens * weights)


class ConvNeck(NeckConfig):
    """LayerNorm -> 3x3 convolution -> GELU -> Linear [-> LayerNorm]: sees neighbours; ``stride`` 2 halves the grid."""

    kind: Literal["conv"] = "conv"
    dim: Positive = 256
    stride: Annotated[int, Field(ge=1, le=4)] = 1
    final_norm: bool = True

    def out(self, grid: Grid) -> Grid:
        return Grid((grid.height - 1) // self.stride + 1, (grid.width - 1) // self.stride + 1, self.dim)

    def build(self, grid: Grid) -> nn.Module:
        return _ConvNeck(grid.dim, self.dim, stride=self.stride, final_norm=self.final_norm)

    def cost(self, grid: Grid) -> Cost:
        weights = 9 * grid.dim * self.dim + self.dim * self.dim
        norms = 2 * grid.dim + (2 * self.dim if self.final_norm else 0)
        return Cost(weights + 2 * self.dim + norms, 2.0 * self.out(grid).tokens * weights)


class _ConvNeck(nn.Module):
    def __init__(self, width: int, dim: int, *, stride: int, final_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv2d(width, dim, 3, stride=stride, padding=1)
        self.linear = nn.Linear(dim, dim)
        self.final_norm: nn.Module = nn.LayerNorm(dim) if final_norm else nn.Identity()

    def forward(self, x_BHWD: Tensor) -> Tensor:
        x_BDHW = self.conv(self.norm(x_BHWD).permute(0, 3, 1, 2))
        return self.final_norm(self.linear(nn.functional.gelu(x_BDHW.permute(0, 2, 3, 1))))
