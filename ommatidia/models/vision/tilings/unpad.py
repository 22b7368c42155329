"""Leaving out the visual tokens of padding, with the end of each row marked.

Shapes: H rows and W columns of visual tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from PIL import Image

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid, content
from ommatidia.core.types import ROW_END, View
from ommatidia.models.vision.tiling import TilingConfig, TokenLayout, VisualTokens

PADDING_FITS = frozenset({"pad", "pad_first"})
"""Ways of fitting an image that centre it between borders of padding."""


class Unpad(TilingConfig):
    """One view, padded to a square, without the rows or columns of padding; each row ends with a learned vector.

    Cambrian-1 (Tong et al. 2024, inference path). 640 x 480 on a 24 x 24 grid leaves 18 rows of 24 tokens and 18 ends.
    """

    kind: Literal["unpad"] = "unpad"

    def views(self, height: int, width: int) -> tuple[View, ...]:
        return (View(0, (height, width)),)

    def cut(self, image: Image.Image) -> list[Image.Image]:
        return [image]

    def token_layout(self, height: int, width: int, grid: Grid) -> TokenLayout:
        square("unpad", grid)
        top, left, bottom, right = content(grid.height, grid.width, height, width, at_least=1)
        pieces = []
        for row in range(top, bottom):
            pieces += [VisualTokens(range(row * grid.width + left, row * grid.width + right)), VisualTokens((ROW_END,))]
        return tuple(pieces)

    def largest(self) -> tuple[int, int]:
        return 1, 1

    def check_fit(self, fits: Mapping[str, str]) -> None:
        for name, fit in fits.items():
            if fit not in PADDING_FITS:
                raise ConfigError(
                    f"tiling unpad leaves out what padding fills, but encoder {name!r} fits images by {fit!r}; "
                    f"set its fit to 'pad'"
                )


def square(kind: str, grid: Grid) -> None:
    """Raises ConfigError for a grid whose cells are no squares of the (square) view."""
    if grid.height != grid.width:
        raise ConfigError(
            f"tiling {kind} keeps cells by where they lie in a square view, but the projector gives a grid of "
            f"{grid.height}x{grid.width}; choose a fusion and projector that keep it square, or another tiling"
        )
