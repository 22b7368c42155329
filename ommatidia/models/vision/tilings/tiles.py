"""What tilings that cut share: a canvas, tiles on it, an overview, text that tells the tiles apart.

NVLM 1.0 (Dai et al. 2024, section 4.2) compared the tile tags.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from PIL import Image
from pydantic import Field

from ommatidia.core.grid import Grid
from ommatidia.core.types import View
from ommatidia.models.vision.tiling import Mark, TilingConfig, TokenLayout, VisualTokens

Positive = Annotated[int, Field(gt=0)]
Byte = Annotated[int, Field(ge=0, le=255)]
Overview = Literal["first", "last"]
Tags = Literal["none", "one_d", "two_d", "box"]
OverviewTag = Literal["<tile_global>", "<tile_global_thumbnail>"]

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels of the canvas."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an image and its tiles lie on a canvas, in pixels."""

    canvas: tuple[int, int]
    """(height, width)."""
    picture: Box
    """The image is resized to fill this box; around it the canvas has the colour of the filling."""
    tiles: tuple[Box, ...]
    """Row by row."""
    columns: int
    """Tiles in one row."""

    @classmethod
    def grid(cls, rows: int, columns: int, tile: tuple[int, int], picture: Box | None = None) -> Layout:
        """``rows`` x ``columns`` tiles of ``tile`` pixels side by side; without a box the image fills the canvas."""
        height, width = tile
        tiles = tuple(
            (row * height, column * width, (row + 1) * height, (column + 1) * width)
            for row in range(rows)
            for column in range(columns)
        )
        canvas = rows * height, columns * width
        return cls(canvas, picture or (0, 0, *canvas), tiles, columns)

    @property
    def filled(self) -> bool:
        """Whether the image covers all of the canvas."""
        return self.picture == (0, 0, *self.canvas)

    def fractions(self, box: Box) -> tuple[float, float, float, float]:
        """A box as fractions of the canvas."""
        height, width = self.canvas
        return box[0] / height, box[1] / width, box[2] / height, box[3] / width


class Tiles(TilingConfig):
    """Base of tilings that cut. The overview shows the whole image once more beside its tiles; each encoder brings
    it, like every view, to its own size.

    ``whole`` names encoders that see each image once, on its whole canvas: their maps are cut to the views
    (Mini-Gemini HD). Where the canvas has borders, ``fill`` is their colour (red, green, blue).
    """

    whole: tuple[str, ...] = ()
    fill: tuple[Byte, Byte, Byte] = (0, 0, 0)

    @abstractmethod
    def layout(self, height: int, width: int) -> Layout:
        """How an image of this size is laid out."""

    def overview_of(self, layout: Layout) -> Overview | None:
        """Where the overview stands among the views of an image, if it has one."""
        return None

    def overview_on_canvas(self) -> bool:
        """Whether the overview shows the borders of the canvas too."""
        return False

    @property
    def seen_whole(self) -> tuple[str, ...]:
        return self.whole

    def only(self, names: Sequence[str]) -> Self:
        return self.model_copy(update={"whole": tuple(name for name in self.whole if name in names)})

    def pixel_identity(self) -> Any:
        said = ("whole", "tags", "overview_tag")  # these change no pixel
        return {name: value for name, value in self.hashed().items() if name not in said}

    def views(self, height: int, width: int) -> tuple[View, ...]:
        layout = self.layout(height, width)
        tiles = [View(0, (box[2] - box[0], box[3] - box[1]), layout.fractions(box)) for box in layout.tiles]
        if (where := self.overview_of(layout)) is None:
            return tuple(tiles)
        if self.overview_on_canvas():
            overview = View(0, _native(layout, height, width), overview=True)
        else:
            overview = View(0, (height, width), layout.fractions(layout.picture), overview=True)
        return (overview, *tiles) if where == "first" else (*tiles, overview)

    def cut(self, image: Image.Image) -> list[Image.Image]:
        layout = self.layout(image.height, image.width)
        top, left, bottom, right = layout.picture
        canvas = image.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
        if not layout.filled:
            canvas = self._pasted(canvas, layout.canvas, (top, left))
        tiles = [canvas.crop((box[1], box[0], box[3], box[2])) for box in layout.tiles]
        if (where := self.overview_of(layout)) is None:
            return tiles
        overview = self.canvas(image) if self.overview_on_canvas() else image
        return [overview, *tiles] if where == "first" else [*tiles, overview]

    def canvas(self, image: Image.Image) -> Image.Image:
        layout = self.layout(image.height, image.width)
        if layout.filled:
            return image
        height, width = _native(layout, image.height, image.width)
        top, left, bottom, right = layout.fractions(layout.picture)
        free_y, free_x = height - image.height, width - image.width
        # The image keeps its share of the border on either side.
        at_y = round(free_y * top / (top + 1 - bottom)) if free_y else 0
        at_x = round(free_x * left / (left + 1 - right)) if free_x else 0
        return self._pasted(image, (height, width), (at_y, at_x))

    def _pasted(self, image: Image.Image, size: tuple[int, int], at: tuple[int, int]) -> Image.Image:
        canvas = Image.new("RGB", (size[1], size[0]), self.fill)
        canvas.paste(image, (at[1], at[0]))
        return canvas

    def token_layout(self, height: int, width: int, grid: Grid) -> TokenLayout:
        layout = self.layout(height, width)
        where, n = self.overview_of(layout), grid.tokens
        first = 1 if where == "first" else 0
        pieces: list[Mark | VisualTokens] = []
        for number in range(len(layout.tiles)):
            view = first + number
            pieces += _marked(self.before(layout, number), view)
            pieces.append(VisualTokens(range(view * n, (view + 1) * n)))
            pieces += _marked(self.after(layout, number), None)
        if where is None:
            return tuple(pieces)
        view = 0 if where == "first" else len(layout.tiles)
        overview: list[Mark | VisualTokens] = [
            *_marked(self.before(layout, None), view),
            VisualTokens(range(view * n, (view + 1) * n)),
        ]
        return (*overview, *pieces) if where == "first" else (*pieces, *overview)

    def before(self, layout: Layout, tile: int | None) -> str:
        """The text before the tokens of a tile by its number, or before those of the overview."""
        return ""

    def after(self, layout: Layout, tile: int) -> str:
        """The text behind the tokens of a tile."""
        return ""


class TaggedTiles(Tiles):
    """Base of tilings whose views are announced by ``tags``, plain text that the tokenizer reads like any other:

    none; ``one_d``: <tile_1>, <tile_2>; ``two_d``: <tile_x0_y0>, column then row; ``box``: <box> (left, top),
    (right, bottom) </box> in pixels of the canvas. The overview, and a single tile, gets ``overview_tag``: the paper
    writes <tile_global>, the released 72B model <tile_global_thumbnail>.
    """

    overview: Overview | None = "last"
    """An image of a single tile has none: it would show the same twice."""
    tags: Tags = "none"
    overview_tag: OverviewTag = "<tile_global_thumbnail>"

    def overview_of(self, layout: Layout) -> Overview | None:
        return self.overview if len(layout.tiles) > 1 else None

    def before(self, layout: Layout, tile: int | None) -> str:
        if self.tags == "none":
            return ""
        if tile is None or len(layout.tiles) == 1:
            return self.overview_tag
        if self.tags == "one_d":
            return f"<tile_{tile + 1}>"
        if self.tags == "two_d":
            return f"<tile_x{tile % layout.columns}_y{tile // layout.columns}>"
        top, left, bottom, right = layout.tiles[tile]
        return f"<box> ({left}, {top}), ({right}, {bottom}) </box>"


def _native(layout: Layout, height: int, width: int) -> tuple[int, int]:
    """(height, width) of the canvas when the image on it keeps this size, its own."""
    top, left, bottom, right = layout.picture
    rows, columns = layout.canvas
    return max(height, round(height * rows / (bottom - top))), max(width, round(width * columns / (right - left)))


def _marked(text: str, view: int | None) -> list[Mark]:
    return [Mark(text, view)] if text else []
