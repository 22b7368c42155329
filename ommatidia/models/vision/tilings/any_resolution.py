"""Any resolution: the canvas that loses least of the image, its padding left out (LLaVA-NeXT, Liu et al. 2024)."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field

from ommatidia.core.grid import Grid
from ommatidia.core.types import ROW_END
from ommatidia.models.vision.tiling import Mark, TokenLayout, VisualTokens
from ommatidia.models.vision.tilings.tiles import Layout, Overview, Positive, Tiles
from ommatidia.models.vision.tilings.unpad import content, square


class AnyResolution(Tiles):
    """The whole image first, then tiles as one map without its padding, each row ended by a learned vector.

    Of the canvases in ``pinpoints`` the one is taken that keeps most of the image's pixels and then wastes least;
    the image is centred on it. The first view is the image as it is (the original stretches it: let the encoders
    fit by ``stretch``). An image so narrow that its map keeps no column brings row ends alone besides that view.
    """

    kind: Literal["any_resolution"] = "any_resolution"
    tile: Positive = 336
    """Side of a tile in pixels."""
    pinpoints: Annotated[tuple[tuple[Positive, Positive], ...], Field(min_length=1)] = (
        (2, 1),
        (1, 2),
        (2, 2),
        (1, 3),
        (3, 1),
    )
    """(rows, columns) in tiles of each canvas."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(tile=16, pinpoints=((2, 1), (1, 2), (2, 2)))

    def overview_of(self, layout: Layout) -> Overview | None:
        return "first"

    def layout(self, height: int, width: int) -> Layout:
        rows, columns = self._pinpoint(height, width)
        tall, wide = rows * self.tile, columns * self.tile
        # Rounding up carries float noise, as released: 300 x 300 becomes 336 x 337.
        if wide / width < tall / height:
            size = min(math.ceil(height * (wide / width)), tall), wide
        else:
            size = tall, min(math.ceil(width * (tall / height)), wide)
        top, left = (tall - size[0]) // 2, (wide - size[1]) // 2
        return Layout.grid(rows, columns, (self.tile, self.tile), (top, left, top + size[0], left + size[1]))

    def _pinpoint(self, height: int, width: int) -> tuple[int, int]:
        def kept_and_wasted(pinpoint: tuple[int, int]) -> tuple[int, int]:
            tall, wide = pinpoint[0] * self.tile, pinpoint[1] * self.tile
            scale = min(wide / width, tall / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return kept, kept - tall * wide

        return max(self.pinpoints, key=kept_and_wasted)

    def largest(self) -> tuple[int, int]:
        rows, columns = max(self.pinpoints, key=lambda pinpoint: (pinpoint[0] * pinpoint[1], pinpoint[0]))
        return rows * self.tile, columns * self.tile

    def token_layout(self, height: int, width: int, grid: Grid) -> TokenLayout:
        square("any_resolution", grid)
        layout = self.layout(height, width)
        side, tiles = grid.height, len(layout.tiles) // layout.columns
        top, left, bottom, right = content(tiles * side, layout.columns * side, height, width)
        pieces: list[Mark | VisualTokens] = [VisualTokens(range(grid.tokens))]
        for row in range(top, bottom):
            for column in range(layout.columns):
                view = 1 + row // side * layout.columns + column
                first = view * grid.tokens + row % side * side
                start, stop = max(0, left - column * side), min(side, right - column * side)
                if start < stop:
                    pieces.append(VisualTokens(range(first + start, first + stop)))
            pieces.append(VisualTokens((ROW_END,)))
        return tuple(pieces)
