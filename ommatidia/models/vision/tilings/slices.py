"""Slices of nearly the image's own proportions (LLaVA-UHD, Xu et al. 2024, section 3.1)."""

from __future__ import annotations

import math
from typing import Literal, Self

from ommatidia.models.vision.tilings.tiles import Layout, Overview, Positive, Tiles

_STEP = 14
"""Pixels. The original's patch: sides of slices are whole multiples of it."""


class Slices(Tiles):
    """About as many slices as the encoder's area goes into the image's, "," and a new line between, overview last.

    Of the grids with one slice less, as many, or one more, the one is taken whose slices come nearest a square. A
    slice keeps its own proportions; what the original does by interpolating position tables to its shape is left to
    the encoder's ``fit``. An image no larger than one slice is not cut.
    """

    kind: Literal["slices"] = "slices"
    side: Positive = 336
    """Pixels. A slice has about ``side`` x ``side`` of them."""
    max_slices: Positive = 6

    @classmethod
    def tiny(cls) -> Self:
        return cls(side=28, max_slices=4)

    def overview_of(self, layout: Layout) -> Overview | None:
        return "last" if len(layout.tiles) > 1 else None

    def layout(self, height: int, width: int) -> Layout:
        ideal = min(math.ceil(width * height / self.side**2), self.max_slices)
        if ideal <= 1:
            return Layout.grid(1, 1, (height, width))
        counts = [n for n in (ideal - 1, ideal, ideal + 1) if 1 < n <= self.max_slices]
        shapes = [(rows, n // rows) for n in counts for rows in range(1, n + 1) if n % rows == 0]
        rows, columns = min(shapes, key=lambda shape: abs(math.log(width * shape[0] / (height * shape[1]))))
        scale = math.sqrt(self.side**2 / (height / rows * (width / columns)))
        tile = _whole_steps(height / rows * scale), _whole_steps(width / columns * scale)
        return Layout.grid(rows, columns, tile)

    def largest(self) -> tuple[int, int]:
        return self.side, self.max_slices * self.side

    def after(self, layout: Layout, tile: int) -> str:
        if len(layout.tiles) == 1:
            return ""
        return "\n" if (tile + 1) % layout.columns == 0 else ","


def _whole_steps(side: float) -> int:
    return max(_STEP, int(side) // _STEP * _STEP)
