"""Counting: two shapes in two colours, each of the four combinations 0 to 3 times, scattered over a 4 x 4 board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from PIL import Image

from ommatidia.data.synthetic.look import BACKGROUNDS, RGB
from ommatidia.data.synthetic.shapes import COLOUR_NAMES, SHAPES, Shape, draw_shapes
from ommatidia.data.synthetic.task import Group, Question, Split, Task, side

BOARD = 4
LARGEST = 3

_PLURAL = {form: f"{form}es" if form.endswith("ss") else f"{form}s" for form in SHAPES}


@dataclass(frozen=True, slots=True)
class CountScene:
    """Shapes of two forms and two colours."""

    forms: tuple[str, str]
    colours: tuple[str, str]
    shapes: tuple[Shape, ...]
    cells: tuple[int, ...]
    """The layout: occupied cells of the board, row by row."""
    background: RGB

    def draw(self, size: int) -> Image.Image:
        return draw_shapes(self.shapes, self.background, size)

    def count(self, *, form: str | None = None, colour: str | None = None) -> int:
        """How many shapes have this form and this colour; None stands for any."""
        return sum(form in (None, s.form) and colour in (None, s.colour) for s in self.shapes)

    def describe(self) -> str:
        parts = [
            f"{(n := self.count(form=form, colour=colour))} {colour} {form if n == 1 else _PLURAL[form]}"
            for form in self.forms
            for colour in self.colours
        ]
        return f"there are {', '.join(parts[:-1])} and {parts[-1]}."

    def questions(self, rng: Random) -> list[Question]:
        few, many = tuple(map(str, range(LARGEST + 1))), tuple(map(str, range(2 * LARGEST + 1)))
        asked = [
            Question(
                f"how many {colour} {_PLURAL[form]} are there?",
                str(self.count(form=form, colour=colour)),
                "both",
                few,
            )
            for form in self.forms
            for colour in self.colours
        ]
        for form in self.forms:
            asked.append(Question(f"how many {_PLURAL[form]} are there?", str(self.count(form=form)), "form", many))
        for colour in self.colours:
            count = self.count(colour=colour)
            asked.append(Question(f"how many {colour} shapes are there?", str(count), "colour", many))
        first, second = rng.sample(self.forms, 2)
        one, other = self.count(form=first), self.count(form=second)
        if one != other:
            text = f"are there more {_PLURAL[first]} than {_PLURAL[second]}?"
            asked.append(Question(text, "yes" if one > other else "no", "more", ("yes", "no")))
        rng.shuffle(asked)
        return asked


@dataclass(frozen=True, slots=True)
class Counts(Task):
    """Counting shapes of a form, of a colour, and of both."""

    name: ClassVar[str] = "counts"
    group: ClassVar[Group] = "vision_centric"
    variants: ClassVar[Mapping[str, int]] = {"both": 4, "form": 2, "colour": 2, "more": 0}

    def compose(self, rng: Random, split: Split) -> CountScene:
        first, second = rng.sample(SHAPES, 2)
        one, other = rng.sample(COLOUR_NAMES, 2)
        kinds = [(form, colour) for form in (first, second) for colour in (one, other)]
        counts = [rng.randint(0, LARGEST) for _ in kinds]
        while sum(counts) == 0:  # an empty board has one layout, which cannot be in both splits
            counts = [rng.randint(0, LARGEST) for _ in kinds]
        cells = _cells(rng, sum(counts), split)
        names = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
        rng.shuffle(names)
        shapes = tuple(_place(rng, form, colour, cell) for (form, colour), cell in zip(names, cells, strict=True))
        return CountScene((first, second), (one, other), shapes, cells, rng.choice(BACKGROUNDS[split]))


def _cells(rng: Random, count: int, split: Split) -> tuple[int, ...]:
    while True:
        cells = tuple(sorted(rng.sample(range(BOARD * BOARD), count)))
        if side(("cells", cells)) == split:
            return cells


def _place(rng: Random, form: str, colour: str, cell: int) -> Shape:
    row, column = divmod(cell, BOARD)
    x, y = ((at + 0.5 + rng.uniform(-0.08, 0.08)) / BOARD for at in (column, row))
    return Shape(form, colour, round(x, 4), round(y, 4), round(rng.uniform(0.3, 0.38) / BOARD, 4))
