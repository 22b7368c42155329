"""Resampling: bring a grid x_BHWD to another height and width without parameters, so that unlike encoders can meet.

Shapes: B batch, H rows, W columns, D channels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, Self

from torch import Tensor
from torch.nn import functional

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid


class ResampleConfig(Config, family=True):
    """A parameter-free map from one height and width to another; a grid that already fits passes untouched."""

    @abstractmethod
    def out(self, grid: Grid, height: int, width: int) -> Grid:
        """The grid that comes out. Raises ConfigError when this kind cannot do it."""

    @abstractmethod
    def __call__(self, x_BHWD: Tensor, height: int, width: int) -> Tensor:
        """Resample; the result has the shape ``out`` says."""

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()


class Auto(ResampleConfig):
    """Adaptive average pooling where both sides shrink (nothing is skipped), bilinear interpolation otherwise."""

    kind: Literal["auto"] = "auto"

    def out(self, grid: Grid, height: int, width: int) -> Grid:
        return grid.resized(height, width)

    def __call__(self, x_BHWD: Tensor, height: int, width: int) -> Tensor:
        shrinks = height <= x_BHWD.shape[1] and width <= x_BHWD.shape[2]
        return (_pool if shrinks else _bilinear)(x_BHWD, height, width)


class Bilinear(ResampleConfig):
    """Bilinear interpolation without antialiasing, in float32: pixel centres aligned, or corners, as Eagle does."""

    kind: Literal["bilinear"] = "bilinear"
    align_corners: bool = False

    def out(self, grid: Grid, height: int, width: int) -> Grid:
        return grid.resized(height, width)

    def __call__(self, x_BHWD: Tensor, height: int, width: int) -> Tensor:
        return _bilinear(x_BHWD, height, width, align_corners=self.align_corners)


class Pool(ResampleConfig):
    """Adaptive average pooling."""

    kind: Literal["pool"] = "pool"

    def out(self, grid: Grid, height: int, width: int) -> Grid:
        return grid.resized(height, width)

    def __call__(self, x_BHWD: Tensor, height: int, width: int) -> Tensor:
        return _pool(x_BHWD, height, width)


class Unshuffle(ResampleConfig):
    """Space to depth: blocks of neighbours become channels, and nothing is lost. Needs whole ratios."""

    kind: Literal["unshuffle"] = "unshuffle"

    def out(self, grid: Grid, height: int, width: int) -> Grid:
        if grid.height % height or grid.width % width:
            raise ConfigError(
                f"unshuffle: {grid.height}x{grid.width} is no whole multiple of {height}x{width}; "
                f"use bilinear or pool, or another grid"
            )
        return Grid(height, width, grid.dim * (grid.height // height) * (grid.width // width))

    def __call__(self, x_BHWD: Tensor, height: int, width: int) -> Tensor:
        return space_to_depth(x_BHWD, x_BHWD.shape[1] // height, x_BHWD.shape[2] // width)


def space_to_depth(x_BHWD: Tensor, rows: int, columns: int) -> Tensor:
    """Fold each block of ``rows`` x ``columns`` neighbours into the channels, row-major, channels innermost."""
    if rows == columns == 1:
        return x_BHWD
    blocks = x_BHWD.unflatten(2, (-1, columns)).unflatten(1, (-1, rows))  # B, H/r, r, W/c, c, D
    return blocks.transpose(2, 3).flatten(3)


def _bilinear(x_BHWD: Tensor, height: int, width: int, *, align_corners: bool = False) -> Tensor:
    if x_BHWD.shape[1:3] == (height, width):
        return x_BHWD
    x_BDHW = x_BHWD.permute(0, 3, 1, 2).float()
    resized_BDHW = functional.interpolate(x_BDHW, (height, width), mode="bilinear", align_corners=align_corners)
    return resized_BDHW.permute(0, 2, 3, 1).to(x_BHWD.dtype)


def _pool(x_BHWD: Tensor, height: int, width: int) -> Tensor:
    if x_BHWD.shape[1:3] == (height, width):
        return x_BHWD
    return functional.adaptive_avg_pool2d(x_BHWD.permute(0, 3, 1, 2), (height, width)).permute(0, 2, 3, 1)
