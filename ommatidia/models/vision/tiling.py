"""Tiling: how one image becomes views, and in which order their tokens stand in the text.

A tiling works on images and shapes alone, so it goes with any mixture of encoders: each prepares every view by its
own transform. What it says in advance (views, marks, places) is exact for every image size, before any weight.
Shapes: K views of an image, H rows and W columns of visual tokens a view.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from PIL import Image

from ommatidia.core.config import Config
from ommatidia.core.grid import Grid
from ommatidia.core.types import View


@dataclass(frozen=True, slots=True)
class Mark:
    """Plain text between the views, such as a tile tag. ``view``: which one it announces; None: no single one.

    ``whole``: it stands for the image and sees all of it, where layers inside the decoder look at images."""

    text: str
    view: int | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Tag:
    """Plain text that is no part of the sequence: layers inside the decoder find it beside the tokens of its view."""

    text: str
    view: int


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """A run of visual tokens: their numbers counted through K, H, W of this image, or ROW_END."""

    numbers: Sequence[int]


TokenLayout = tuple[Mark | Tag | VisualTokens, ...]
"""What stands in the text where an image stands, and the tags beside it. A tiling writes marks and places alone."""


class TilingConfig(Config, family=True):
    """How an image is cut into views. Heights and widths are pixels of the decoded image."""

    @abstractmethod
    def views(self, height: int, width: int) -> tuple[View, ...]:
        """The views of an image of this size, in the order they go through the encoders."""

    @abstractmethod
    def cut(self, image: Image.Image) -> list[Image.Image]:
        """The images that the views show, one each, resized only where the tiling itself asks for it."""

    @abstractmethod
    def token_layout(self, height: int, width: int, grid: Grid) -> TokenLayout:
        """Marks and visual tokens in the order of the text; ``grid`` is what the projector gives for one view.

        Raises ConfigError when the tiling cannot lay out a grid of this shape.
        """

    @abstractmethod
    def largest(self) -> tuple[int, int]:
        """(height, width) of an image that brings as many views and visual tokens as any image can."""

    def __str__(self) -> str:
        kind = type(self).model_fields.get("kind")
        return f"tiling {kind.default if kind else type(self).__name__}"

    @property
    def seen_whole(self) -> tuple[str, ...]:
        """Encoders that see each image once, as ``canvas`` lays it out; their maps are cut to the views."""
        return ()

    def canvas(self, image: Image.Image) -> Image.Image:
        """The whole image as the tiling lays it out, at its own resolution, borders included; views' boxes are
        fractions of it. An encoder that sees images whole stretches it to its own size."""
        return image

    def view_grid(self, grid: Grid) -> Grid:
        """What such an encoder hands over for one view, when ``grid`` is what it gives for the whole canvas."""
        return grid

    def only(self, names: Sequence[str]) -> TilingConfig:
        """This tiling for a model with no encoders but these."""
        return self

    def check_fit(self, fits: Mapping[str, str]) -> None:
        """Raises ConfigError where the way in which an encoder fits images (by name) contradicts the tiling."""

    def pixel_identity(self) -> Any:
        """What decides the pixels of the views, as plain data; None: every image is one view, as it is."""
        return None

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()


class Whole(TilingConfig):
    """One view: the whole image, each encoder at its own resolution (Eagle, LLaVA-1.5)."""

    kind: Literal["whole"] = "whole"

    def views(self, height: int, width: int) -> tuple[View, ...]:
        return (View(0, (height, width)),)

    def cut(self, image: Image.Image) -> list[Image.Image]:
        return [image]

    def token_layout(self, height: int, width: int, grid: Grid) -> TokenLayout:
        return (VisualTokens(range(grid.tokens)),)

    def largest(self) -> tuple[int, int]:
        return 1, 1
