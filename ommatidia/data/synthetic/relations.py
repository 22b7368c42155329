"""Spatial relations of three shapes, unlike in form and colour, no two in one row or column of a 5 x 5 board."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import ClassVar

from PIL import Image

from ommatidia.data.synthetic.look import BACKGROUNDS, RGB
from ommatidia.data.synthetic.shapes import COLOUR_NAMES, SHAPES, Shape, draw_shapes
from ommatidia.data.synthetic.task import Group, Question, Split, Task, side

BOARD = 5
_CLEAR = 1.3
"""One distance must be so many times the other before "closer" is asked."""

_EXTREMES = (("leftmost", "x", 1), ("rightmost", "x", -1), ("top", "y", 1), ("bottom", "y", -1))


@dataclass(frozen=True, slots=True)
class RelationScene:
    """Three shapes; y grows downwards."""

    shapes: tuple[Shape, Shape, Shape]
    cells: tuple[tuple[int, int], ...]
    """The layout: (row, column) of each shape."""
    background: RGB

    def draw(self, size: int) -> Image.Image:
        return draw_shapes(self.shapes, self.background, size)

    def describe(self) -> str:
        across = ", ".join(s.name for s in sorted(self.shapes, key=lambda s: s.x))
        down = ", ".join(s.name for s in sorted(self.shapes, key=lambda s: s.y))
        return f"from left to right: {across}. from top to bottom: {down}."

    def questions(self, rng: Random) -> list[Question]:
        asked = [*self._sides(rng), *self._extremes(rng), *self._closer(rng)]
        rng.shuffle(asked)
        return asked

    def _sides(self, rng: Random) -> list[Question]:
        """Two shapes and a direction, chosen without looking: every answer is right half of the time."""
        asked = []
        for words, of in ((("left of", "right of"), lambda s: s.x), (("above", "below"), lambda s: s.y)):
            first, second = rng.sample(self.shapes, 2)
            true = words[0] if of(first) < of(second) else words[1]
            said = rng.choice(words)
            text = f"is the {first.name} {said} the {second.name}?"
            asked.append(Question(text, "yes" if said == true else "no", "side", ("yes", "no")))
            first, second = rng.sample(self.shapes, 2)
            true = words[0] if of(first) < of(second) else words[1]
            short = tuple(word.removesuffix(" of") for word in words)
            either = f"{short[0]} or {words[1]}"
            text = f"is the {first.form} {either} the {second.form}?"
            asked.append(Question(text, true.removesuffix(" of"), "which_side", short))
        return asked

    def _extremes(self, rng: Random) -> list[Question]:
        asked = []
        for word, axis, sign in rng.sample(_EXTREMES, 2):
            shape = min(self.shapes, key=lambda s: sign * getattr(s, axis))
            if rng.random() < 0.5:
                asked.append(Question(f"what color is the {word} shape?", shape.colour, "extreme", COLOUR_NAMES))
            else:
                asked.append(Question(f"what is the {word} shape?", shape.form, "extreme", SHAPES))
        return asked

    def _closer(self, rng: Random) -> list[Question]:
        orders = list(permutations(self.shapes))
        rng.shuffle(orders)
        for shape, one, other in orders:
            to_one, to_other = _distance(shape, one), _distance(shape, other)
            if max(to_one, to_other) >= _CLEAR * min(to_one, to_other):
                near, far = (one, other) if to_one < to_other else (other, one)
                text = f"is the {shape.form} closer to the {one.form} or the {other.form}?"
                fact = f"the {shape.form} is closer to the {near.form} than to the {far.form}."
                return [Question(text, near.form, "closer", (one.form, other.form), fact)]
        return []


def _distance(a: Shape, b: Shape) -> float:
    return math.hypot(a.x - b.x, a.y - b.y)


@dataclass(frozen=True, slots=True)
class Relations(Task):
    """Left, right, above, below, outermost, closer."""

    name: ClassVar[str] = "relations"
    group: ClassVar[Group] = "vision_centric"
    variants: ClassVar[Mapping[str, int]] = {"side": 2, "which_side": 2, "extreme": 2, "closer": 0}

    def compose(self, rng: Random, split: Split) -> RelationScene:
        while True:
            rows, columns = rng.sample(range(BOARD), 3), rng.sample(range(BOARD), 3)
            cells = tuple(zip(rows, columns, strict=True))
            # The set decides, not the order: exchanging two shapes makes no new layout.
            if side(("cells", sorted(cells))) == split:
                break
        forms, colours = rng.sample(SHAPES, 3), rng.sample(COLOUR_NAMES, 3)
        a, b, c = (_place(rng, *named) for named in zip(forms, colours, cells, strict=True))
        return RelationScene((a, b, c), cells, rng.choice(BACKGROUNDS[split]))


def _place(rng: Random, form: str, colour: str, cell: tuple[int, int]) -> Shape:
    y, x = ((at + 0.5 + rng.uniform(-0.12, 0.12)) / BOARD for at in cell)
    return Shape(form, colour, round(x, 4), round(y, 4), round(rng.uniform(0.38, 0.46) / BOARD, 4))
