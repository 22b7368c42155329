"""Dynamic tiling: as many tiles as suit the image's aspect ratio (InternVL 1.5, Chen et al. 2024, section 3.2)."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, Self

from pydantic import model_validator

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision.tilings.tiles import Layout, Positive, TaggedTiles


class Dynamic(TaggedTiles):
    """The grid of at most ``max_tiles`` tiles nearest the image's aspect ratio, stretched; thumbnail last.

    InternVL 1.5 trains with 12 tiles, NVLM with 6. ``rule``: ``closest_aspect`` is theirs, where of two grids equally
    near the larger wins only if the image has more than half its pixels; ``area_weighted`` (an option of Megatron-LM)
    weighs the ratio with the share of the image's pixels that the grid keeps.
    """

    kind: Literal["dynamic"] = "dynamic"
    tile: Positive = 448
    """Side of a tile in pixels."""
    min_tiles: Positive = 1
    max_tiles: Positive = 12
    rule: Literal["closest_aspect", "area_weighted"] = "closest_aspect"

    @classmethod
    def tiny(cls) -> Self:
        return cls(tile=16, max_tiles=4, tags="one_d")

    @model_validator(mode="after")
    def _ordered(self) -> Dynamic:
        if self.min_tiles > self.max_tiles:
            raise ConfigError(f"dynamic: min_tiles {self.min_tiles} is more than max_tiles {self.max_tiles}")
        return self

    def layout(self, height: int, width: int) -> Layout:
        choose = _closest_aspect if self.rule == "closest_aspect" else _area_weighted
        columns, rows = choose(height, width, _shapes(self.min_tiles, self.max_tiles), self.tile**2)
        return Layout.grid(rows, columns, (self.tile, self.tile))

    def largest(self) -> tuple[int, int]:
        return self.tile, self.max_tiles * self.tile


@lru_cache(maxsize=256)
def _shapes(least: int, most: int) -> tuple[tuple[int, int], ...]:
    """(columns, rows) of every grid with so many tiles, small ones first; lexicographic where the original is not
    ordered."""
    sides = range(1, most + 1)
    found = [(columns, rows) for columns in sides for rows in sides if least <= columns * rows <= most]
    return tuple(sorted(found, key=lambda shape: (shape[0] * shape[1], shape)))


def _closest_aspect(height: int, width: int, shapes: tuple[tuple[int, int], ...], tile_area: int) -> tuple[int, int]:
    aspect, best, smallest = width / height, shapes[0], float("inf")
    for columns, rows in shapes:
        away = abs(aspect - columns / rows)
        if away < smallest or (away == smallest and width * height > 0.5 * tile_area * columns * rows):
            best, smallest = (columns, rows), away
    return best


def _area_weighted(height: int, width: int, shapes: tuple[tuple[int, int], ...], tile_area: int) -> tuple[int, int]:
    aspect = width / height

    def worth(shape: tuple[int, int]) -> float:
        ratio = shape[0] / shape[1]
        kept = min(shape[0] * shape[1] * tile_area / (width * height), 0.6)
        return kept * min(ratio / aspect, aspect / ratio)

    return max(shapes, key=worth)
