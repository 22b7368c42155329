"""Projectors that work on each token by itself, or on blocks of neighbours: identity, linear, MLP, pixel shuffle, pool.

Shapes: B batch, H rows, W columns, D feature channels, E language-model width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.models.fusion.resample import Pool, ResampleConfig, space_to_depth
from ommatidia.models.projector.projector import ProjectorConfig

Positive = Annotated[int, Field(gt=0)]


class Identity(ProjectorConfig):
    """Features as they are; they must already have the language model's width."""

    kind: Literal["identity"] = "identity"

    def out(self, grid: Grid, width: int) -> Grid:
        if grid.dim != width:
            raise ConfigError(
                f"identity: features are {grid.dim} wide and the language model {width}; use linear or mlp"
            )
        return grid

    def build(self, grid: Grid, width: int) -> nn.Module:
        self.out(grid, width)
        return nn.Identity()

    def cost(self, grid: Grid, width: int) -> Cost:
        return Cost()

    @classmethod
    def tiny_grid(cls) -> Grid:
        return Grid(4, 4, 24)


class LinearProjector(ProjectorConfig):
    """One Linear layer (LLaVA 1.0)."""

    kind: Literal["linear"] = "linear"

    def out(self, grid: Grid, width: int) -> Grid:
        return grid.with_dim(width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        return nn.Linear(grid.dim, width)

    def cost(self, grid: Grid, width: int) -> Cost:
        return mlp_cost([grid.dim, width], tokens=grid.tokens)


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
        return mlp(self._widths(grid, width), norm=self.norm)

    def cost(self, grid: Grid, width: int) -> Cost:
        return mlp_cost(self._widths(grid, width), tokens=grid.tokens, norm=self.norm)


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
        return nn.Sequential(_Fold(self.factor), *mlp(self._widths(grid, width), norm=self.norm))

    def cost(self, grid: Grid, width: int) -> Cost:
        return mlp_cost(self._widths(grid, width), tokens=self._folded(grid).tokens, norm=self.norm)


class PoolMLP(ProjectorConfig):
    """Resampling to ``grid``, then an MLP: MM1's average pooling (depth 1), Cambrian-1's interpolation with an MLP."""

    kind: Literal["pool_mlp"] = "pool_mlp"
    grid: tuple[Positive, Positive] = (12, 12)
    resample: ResampleConfig = Pool()
    depth: Annotated[int, Field(ge=1, le=8)] = 2
    hidden: Positive | None = None
    norm: bool = False

    def _pooled(self, grid: Grid) -> Grid:
        rows, columns = self.grid
        if rows > grid.height or columns > grid.width:
            raise ConfigError(f"pool_mlp: {rows}x{columns} is finer than the grid {grid.height}x{grid.width}")
        return self.resample.out(grid, rows, columns)

    def _widths(self, grid: Grid, width: int) -> list[int]:
        return [self._pooled(grid).dim, *[self.hidden or width] * (self.depth - 1), width]

    def out(self, grid: Grid, width: int) -> Grid:
        return self._pooled(grid).with_dim(width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        return nn.Sequential(_Resized(self.resample, *self.grid), *mlp(self._widths(grid, width), norm=self.norm))

    def cost(self, grid: Grid, width: int) -> Cost:
        return mlp_cost(self._widths(grid, width), tokens=self._pooled(grid).tokens, norm=self.norm)

    @classmethod
    def tiny(cls) -> Self:
        return cls(grid=(2, 2))


class _Resized(nn.Module):
    def __init__(self, resample: ResampleConfig, height: int, width: int) -> None:
        super().__init__()
        self.resample, self.size = resample, (height, width)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return self.resample(x_BHWD, *self.size)


class _Fold(nn.Module):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return space_to_depth(x_BHWD, self.factor, self.factor)


def mlp(widths: list[int], *, norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths with GELU between, a LayerNorm first if wanted."""
    layers: list[nn.Module] = [nn.LayerNorm(widths[0])] if norm else []
    for i, (inner, outer) in enumerate(pairwise(widths)):
        layers += [nn.GELU()] * (i > 0) + [nn.Linear(inner, outer)]
    return nn.Sequential(*layers)


def mlp_cost(widths: list[int], *, tokens: int, norm: bool = False) -> Cost:
    """What ``mlp`` holds and does for ``tokens`` tokens."""
    pairs = list(pairwise(widths))
    parameters = sum(inner * outer + outer for inner, outer in pairs) + (2 * widths[0] if norm else 0)
    return Cost(parameters, 2.0 * tokens * sum(inner * outer for inner, outer in pairs))
