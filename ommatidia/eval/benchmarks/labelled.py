"""LabelledPicture: a diagram whose words are covered by letters, as AI2D's questions about letters need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ommatidia.core.config import digest
from ommatidia.core.types import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

Label = tuple[tuple[int, int, int, int], str]
"""A box (left, top, right, bottom) in pixels and what stands in it instead."""
_LARGEST = 100


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """``diagram`` with a white box and a letter over each label; drawn when it is opened."""

    diagram: Picture
    labels: tuple[Label, ...]

    @property
    def digest(self) -> str:
        return digest(["labelled", self.diagram.digest, [[*box, text] for box, text in self.labels]])

    def size(self) -> tuple[int, int]:
        return self.diagram.size()

    def open(self) -> Image:
        from PIL import ImageDraw

        image = self.diagram.open().copy()
        pen = ImageDraw.Draw(image)
        for (left, top, right, bottom), text in self.labels:
            pen.rectangle((left, top, right, bottom), fill="white")
            pen.text(
                ((left + right) / 2, (top + bottom) / 2),
                text,
                fill="black",
                anchor="mm",
                font_size=_fitting(right - left, bottom - top, len(text)),
            )
        return image


def _fitting(width: int, height: int, letters: int) -> float:
    """A size at which so many capitals fit into the box: they are about 0.75 wide and high."""
    return max(4.0, min(_LARGEST, height / 0.75, width / (0.75 * max(letters, 1))))


def labels_of(annotated: Sequence[tuple[Sequence[Sequence[float]], str]]) -> tuple[Label, ...]:
    """Boxes given by two corners, in whatever order, with the words for them. Raises ValueError for other shapes."""
    found = []
    for ((x0, y0), (x1, y1)), text in annotated:
        left, right, top, bottom = (round(v) for v in (min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)))
        found.append(((left, top, right, bottom), str(text)))
    return tuple(found)
