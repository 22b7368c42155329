"""Tiling: how one picture becomes views, and in which order their tokens stand in the text.

A tiling works on pictures and shapes alone, so it goes with any mixture of encoders: each prepares every view by its
own transform. What it says in advance (views, marks, places) is exact for every picture size, before any weight.
Shapes: K views of a picture, H rows and W columns of visual tokens a view.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from PIL import Image

from ommatidia.core.config import Config
from ommatidia.core.grid import Grid
from ommatidia.core.types import View


@dataclass(frozen=True, slots=True)
class Mark:
    """Plain text between the views, such as a tile tag. ``view``: which one it announces; None: no single one."""

    text: str
    view: int | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """A run of visual tokens: their numbers counted through K, H, W of this picture, or ROW_END."""

    numbers: Sequence[int]


Script = tuple[Mark | Places, ...]
"""What stands in the text where a picture stands."""


class TilingConfig(Config, family=True):
    """How a picture is cut into views. Heights and widths are pixels of the decoded picture."""

    @abstractmethod
    def views(self, height: int, width: int) -> tuple[View, ...]:
        """The views of a picture of this size, in the order they go through the encoders."""

    @abstractmethod
    def cut(self, image: Image.Image) -> list[Image.Image]:
        """The pictures that the views show, one each, resized only where the tiling itself asks for it."""

    @abstractmethod
    def script(self, height: int, width: int, grid: Grid) -> Script:
        """Marks and visual tokens in the order of the text; ``grid`` is what the projector gives for one view."""

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()


class Whole(TilingConfig):
    """One view: the whole picture, each encoder at its own resolution (Eagle, LLaVA-1.5)."""

    kind: Literal["whole"] = "whole"

    def views(self, height: int, width: int) -> tuple[View, ...]:
        return (View(0, (height, width)),)

    def cut(self, image: Image.Image) -> list[Image.Image]:
        return [image]

    def script(self, height: int, width: int, grid: Grid) -> Script:
        return (Places(range(grid.tokens)),)
