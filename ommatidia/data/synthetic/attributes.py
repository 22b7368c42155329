"""Attributes: one to three shapes that differ in form and in colour, each large or small: which is what?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from PIL import Image

from ommatidia.data.synthetic.look import BACKGROUNDS, RGB
from ommatidia.data.synthetic.shapes import COLOUR_NAMES, SHAPES, Shape, draw_shapes
from ommatidia.data.synthetic.task import Group, Question, Split, Task, side

SIZES = {"small": 0.065, "large": 0.13}
"""Radius as a fraction of the image's side."""

_PLACES = tuple((x, y) for x in (0.18, 0.5, 0.82) for y in (0.18, 0.5, 0.82))


@dataclass(frozen=True, slots=True)
class AttributeScene:
    """Two or three shapes and how large each is."""

    shapes: tuple[Shape, ...]
    sizes: tuple[str, ...]
    layout: tuple[int, ...]
    """Places taken on a 3 x 3 board, in ascending order."""
    background: RGB

    def draw(self, size: int) -> Image.Image:
        return draw_shapes(self.shapes, self.background, size)

    def describe(self) -> str:
        parts = [f"a {how} {shape.name}" for shape, how in zip(self.shapes, self.sizes, strict=True)]
        return f"there is {' and '.join(parts)}."

    def questions(self, rng: Random) -> list[Question]:
        asked = []
        for shape, how in zip(self.shapes, self.sizes, strict=True):
            asked.append(Question(f"what color is the {shape.form}?", shape.colour, "colour", COLOUR_NAMES))
            asked.append(Question(f"what is the {shape.colour} shape?", shape.form, "form", SHAPES))
            asked.append(Question(f"is the {shape.form} large or small?", how, "size", tuple(SIZES)))
        shape, stranger = rng.sample(self.shapes, 2)
        # Both parts of the question are in the image either way: only their belonging together decides.
        together = rng.random() < 0.5
        article = "an" if shape.colour[0] in "aeiou" else "a"
        text = f"is there {article} {shape.colour} {(shape if together else stranger).form}?"
        asked.append(Question(text, "yes" if together else "no", "present", ("yes", "no")))
        rng.shuffle(asked)
        return asked


@dataclass(frozen=True, slots=True)
class Attributes(Task):
    """Colour, form and size of a named shape."""

    name: ClassVar[str] = "attributes"
    group: ClassVar[Group] = "general"
    variants: ClassVar[Mapping[str, int]] = {"colour": 2, "form": 2, "size": 2, "present": 1}

    def compose(self, rng: Random, split: Split) -> AttributeScene:
        count = rng.randint(2, 3)
        while True:
            layout = tuple(sorted(rng.sample(range(len(_PLACES)), count)))
            if side(("places", layout)) == split:
                break
        places = rng.sample(layout, count)
        forms, colours = rng.sample(SHAPES, count), rng.sample(COLOUR_NAMES, count)
        sizes = tuple(rng.choice(tuple(SIZES)) for _ in range(count))
        shapes = tuple(_place(rng, *each) for each in zip(forms, colours, sizes, places, strict=True))
        return AttributeScene(shapes, sizes, layout, rng.choice(BACKGROUNDS[split]))


def _place(rng: Random, form: str, colour: str, how: str, place: int) -> Shape:
    x, y = (at + rng.uniform(-0.02, 0.02) for at in _PLACES[place])
    radius = SIZES[how] * rng.uniform(0.92, 1.08)
    return Shape(form, colour, round(x, 4), round(y, 4), round(radius * 0.95, 4))
