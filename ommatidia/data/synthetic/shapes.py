"""Drawing of filled shapes, smooth at small sizes. Coordinates are fractions of the side, from the top left corner."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ommatidia.data.synthetic.look import COLOURS, RGB, outline

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOUR_NAMES = tuple(COLOURS)

_OVERSAMPLE = 2


def _polygon(points: int, *, inner: float = 1.0, turn: float = -math.pi / 2) -> tuple[tuple[float, float], ...]:
    """Corners on a unit circle; with ``inner`` below 1, every second one is drawn in."""
    radii = [1.0 if k % 2 == 0 else inner for k in range(points)]
    angles = [turn + 2 * math.pi * k / points for k in range(points)]
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True))


_ARM = 0.36
_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": tuple((0.86 * x, 0.86 * y) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))),
    "triangle": tuple((1.1 * x, 1.1 * y + 0.2) for x, y in _polygon(3)),
    "star": tuple((1.12 * x, 1.12 * y) for x, y in _polygon(10, inner=0.45)),
    "cross": (
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: what it is, its colour's name, its centre and its radius."""

    form: str
    colour: str
    x: float
    y: float
    radius: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.form}"


def draw_shapes(shapes: tuple[Shape, ...], background: RGB, size: int) -> Image.Image:
    """The shapes on a plain background, ``size`` x ``size`` pixels."""
    scale = size * _OVERSAMPLE
    page = Image.new("RGB", (scale, scale), background)
    pen = ImageDraw.Draw(page)
    edge = outline(background)
    thickness = max(1, round(scale / 128))
    for shape in shapes:
        x, y, r, fill = shape.x * scale, shape.y * scale, shape.radius * scale, COLOURS[shape.colour]
        if shape.form == "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=edge, width=thickness)
        else:
            corners = [(x + r * dx, y + r * dy) for dx, dy in _CORNERS[shape.form]]
            pen.polygon(corners, fill=fill, outline=edge, width=thickness)
    return page.reduce(_OVERSAMPLE)
