"""A tiling for tests of injections: a wide image becomes its left and its right half, and a thumbnail behind them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from model_toys import Colour, sample
from PIL import Image
from torch import nn

from ommatidia.core.grid import Grid
from ommatidia.core.types import ImagePart, Sample, View
from ommatidia.models.vision.tiling import Mark, TilingConfig, TokenLayout, VisualTokens


class Halves(TilingConfig):
    """Cuts what is wider than high. Without a field ``kind`` it stays out of the registry."""

    thumbnail: bool = True
    tags: bool = True

    @property
    def kind(self) -> str:
        return "halves"

    def views(self, height: int, width: int) -> tuple[View, ...]:
        if width <= height and self.thumbnail:
            return (View(0, (height, width)),)
        half = (height, width // 2)
        halves = (View(0, half, (0.0, 0.0, 1.0, 0.5)), View(0, half, (0.0, 0.5, 1.0, 1.0)))
        return (*halves, View(0, (height, width), overview=True)) if self.thumbnail else halves

    def largest(self) -> tuple[int, int]:
        return 40, 80

    def cut(self, image: Image.Image) -> list[Image.Image]:
        width, height = image.size
        pieces = [image.crop((0, 0, width // 2, height)), image.crop((width // 2, 0, width, height)), image]
        count = len(self.views(height, width))
        return pieces[-1:] if count == 1 else pieces[:count]

    def token_layout(self, height: int, width: int, grid: Grid) -> TokenLayout:
        pieces: list[Mark | VisualTokens] = [Mark("(")]
        for number, view in enumerate(self.views(height, width)):
            name = "<all>" if view.box == (0.0, 0.0, 1.0, 1.0) else f"<tile {number}>"
            pieces += [Mark(name, number)] if self.tags else []
            pieces += [VisualTokens(range(number * grid.tokens, (number + 1) * grid.tokens))]
        return (*pieces, Mark(")"))


@dataclass(frozen=True)
class Wide(Colour):
    """Twice as wide as high, its quarters of four colours."""

    def size(self) -> tuple[int, int]:
        return 40, 80

    def open(self) -> Image.Image:
        image = Image.new("RGB", (80, 40), (20, 200 - self.right, 90))
        image.paste(Colour(self.left, self.right).open(), (0, 0))
        return image


def cut_samples() -> list[Sample]:
    """No image, one that is cut, two of which one is cut, and one that is not: rows that differ in everything."""
    red, blue = Wide(250, 40), Wide(3, 190)
    return [
        sample("How are you?", answer="well", name="words"),
        sample(ImagePart(0), "\nWhat colour is it?", answer="red", images=(red,), name="one"),
        sample("See ", ImagePart(0), ImagePart(1), "Brighter?", answer="no", images=(Colour(9), blue), name="two"),
        sample("Look: ", ImagePart(0), answer="blue and so on", images=(Colour(200, 7),), name="late"),
    ]


def opened(injection: nn.Module) -> None:
    """Gates start at 0; here they are open, so that what layers find can be seen."""
    with torch.no_grad():
        for parameter in injection.parameters():
            if not parameter.any():
                parameter.fill_(0.7)
