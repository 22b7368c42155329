"""Projectors: from the fused grid to the language model's width, x_BHWD -> v_BHWE.

Shapes: B batch, H rows, W columns, D channels, E language-model width.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.models.fusion.resample import space_to_depth

Positive = Annotated[int, Field(gt=0)]


class ProjectorConfig(Config, family=True):
    """Maps visual features to the width of the language model. Weights are drawn from the ambient generator."""

    @abstractmethod
    def out(self, grid: Grid, width: int) -> Grid:
        """The grid of visual tokens, ``width`` wide. Raises ConfigError when ``grid`` does not fit."""

    @abstractmethod
    def build(self, grid: Grid, width: int) -> nn.Module:
        """A module x_BHWD -> v_BHWE with E = ``width``."""

    @abstractmethod
    def cost(self, grid: Grid, width: int) -> Cost:
        """Parameters, and operations for one view."""

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()


class LinearProjector(ProjectorConfig):
    """One Linear layer (LLaVA 1.0)."""

    kind: Literal["linear"] = "linear"

    def out(self, grid: Grid, width: int) -> Grid:
        return grid.with_dim(width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        return nn.Linear(grid.dim, width)

    def cost(self, grid: Grid, width: int) -> Cost:
        return _mlp_cost([grid.dim, width], tokens=grid.tokens)


class MLPProjector(ProjectorConfig):
    """``depth`` Linear layers with GELU between (LLaVA-1.5 and Eagle: depth 2, hidden = language width)."""

    kind: Literal["mlp"] = "mlp"
    depth: Annotated[int, Field(ge=1, le=8)] = 2
    hidden: Positive | None = None
    """None: the language model's width."""
    norm: bool = False
    """A LayerNorm first: steadies raw features whose channels differ in size."""

    def _widths(self, grid: Grid, width: int) -> list[int]:
        return [grid.dim, *[self.hidden or width] * (self.depth - 1), width]

    def out(self, grid: Grid, width: int) -> Grid:
        return grid.with_dim(width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        return _mlp(self._widths(grid, width), norm=self.norm)

    def cost(self, grid: Grid, width: int) -> Cost:
        return _mlp_cost(self._widths(grid, width), tokens=grid.tokens, norm=self.norm)


class PixelShuffleMLP(ProjectorConfig):
    """Blocks of ``factor`` x ``factor`` neighbours become one token, then LayerNorm and an MLP (InternVL, VILA)."""

    kind: Literal["pixel_shuffle_mlp"] = "pixel_shuffle_mlp"
    factor: Annotated[int, Field(ge=2, le=16)] = 2
    depth: Annotated[int, Field(ge=1, le=8)] = 2
    hidden: Positive | None = None
    norm: bool = True

    def _folded(self, grid: Grid) -> Grid:
        if grid.height % self.factor or grid.width % self.factor:
            raise ConfigError(
                f"pixel_shuffle_mlp: the grid {grid.height}x{grid.width} is not divisible by factor {self.factor}; "
                f"choose another factor, or a grid in the fusion"
            )
        return Grid(grid.height // self.factor, grid.width // self.factor, grid.dim * self.factor**2)

    def _widths(self, grid: Grid, width: int) -> list[int]:
        return [self._folded(grid).dim, *[self.hidden or width] * (self.depth - 1), width]

    def out(self, grid: Grid, width: int) -> Grid:
        return self._folded(grid).with_dim(width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        return nn.Sequential(_Fold(self.factor), *_mlp(self._widths(grid, width), norm=self.norm))

    def cost(self, grid: Grid, width: int) -> Cost:
        return _mlp_cost(self._widths(grid, width), tokens=self._folded(grid).tokens, norm=self.norm)


class _Fold(nn.Module):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return space_to_depth(x_BHWD, self.factor, self.factor)


def _mlp(widths: list[int], *, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.LayerNorm(widths[0])] if norm else []
    for i, (inner, outer) in enumerate(pairwise(widths)):
        layers += [nn.GELU()] * (i > 0) + [nn.Linear(inner, outer)]
    return nn.Sequential(*layers)


def _mlp_cost(widths: list[int], *, tokens: int, norm: bool = False) -> Cost:
    pairs = list(pairwise(widths))
    parameters = sum(inner * outer + outer for inner, outer in pairs) + (2 * widths[0] if norm else 0)
    return Cost(parameters, 2.0 * tokens * sum(inner * outer for inner, outer in pairs))
