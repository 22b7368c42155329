"""Tilings that cut every image alike: a fixed grid of tiles, and windows that may overlap."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.models.vision.preprocess import ImageSize
from ommatidia.models.vision.tilings.tiles import Box, Layout, Positive, TaggedTiles


class FixedGrid(TaggedTiles):
    """Rows x columns tiles and an overview, the same for every image (SPHINX, MM1, Mini-Gemini HD).

    ``fit``: ``pad`` centres the image on the canvas with its aspect ratio kept, ``stretch`` fills the canvas.
    """

    kind: Literal["fixed_grid"] = "fixed_grid"
    rows: int = Field(2, ge=1, le=64)
    columns: int = Field(2, ge=1, le=64)
    tile: ImageSize = (336, 336)
    """(rows, columns) in pixels of one tile."""
    fit: Literal["stretch", "pad"] = "stretch"

    @classmethod
    def tiny(cls) -> Self:
        return cls(tile=(24, 24), columns=1)

    def layout(self, height: int, width: int) -> Layout:
        canvas = self.rows * self.tile[0], self.columns * self.tile[1]
        picture = centred(height, width, canvas) if self.fit == "pad" else None
        return Layout.grid(self.rows, self.columns, self.tile, picture)

    def largest(self) -> tuple[int, int]:
        return 1, 1

    def overview_on_canvas(self) -> bool:
        return self.fit == "pad"

    def view_grid(self, grid: Grid) -> Grid:
        return grid.resized(max(1, round(grid.height / self.rows)), max(1, round(grid.width / self.columns)))


class Windows(TaggedTiles):
    """Windows slid over the image, stretched to one size, and an overview (Monkey: 448 px windows on 896 x 896).

    Raises ConfigError for windows that do not end where the canvas ends.
    """

    kind: Literal["windows"] = "windows"
    size: ImageSize = (896, 896)
    """(rows, columns) in pixels of the canvas."""
    window: Positive = 448
    stride: Positive | None = None
    """Pixels from one window to the next; None: side by side. Less than ``window``: they overlap."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=(32, 48), window=32, stride=8)

    @model_validator(mode="after")
    def _covers(self) -> Windows:
        stride = self.stride or self.window
        if stride > self.window:
            raise ConfigError(f"windows: a stride of {stride} px leaves gaps between windows of {self.window} px")
        for side in self.size:
            if side < self.window or (side - self.window) % stride:
                raise ConfigError(
                    f"windows: windows of {self.window} px at every {stride} px do not end where {side} px end; "
                    f"choose a size of {self.window} px plus a multiple of {stride}"
                )
        return self

    def layout(self, height: int, width: int) -> Layout:
        rows, columns = (range(0, side - self.window + 1, self.stride or self.window) for side in self.size)
        tiles = tuple((top, left, top + self.window, left + self.window) for top in rows for left in columns)
        return Layout(self.size, (0, 0, *self.size), tiles, len(columns))

    def largest(self) -> tuple[int, int]:
        return 1, 1

    def view_grid(self, grid: Grid) -> Grid:
        rows, columns = (self.window / side for side in self.size)
        return grid.resized(max(1, round(grid.height * rows)), max(1, round(grid.width * columns)))


def centred(height: int, width: int, canvas: tuple[int, int]) -> Box:
    """The box of an image that fits into a canvas with its aspect ratio kept."""
    rows, columns = canvas
    scale = min(rows / height, columns / width)
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (rows - tall) // 2, (columns - wide) // 2
    return top, left, top + tall, left + wide
