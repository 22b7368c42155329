"""Charts of real tables: 2 to 5 coloured bars, or points on a line, each with its label below and its value above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from PIL import Image, ImageDraw

from ommatidia.core.contents import Contents
from ommatidia.data.synthetic import tables
from ommatidia.data.synthetic.look import BACKGROUNDS, COLOURS, FONTS, RGB, fitting_font, outline
from ommatidia.data.synthetic.shapes import COLOUR_NAMES
from ommatidia.data.synthetic.task import Group, Question, Split, Task, by_split, side

FEWEST, MOST = 2, 5
_CLEAR = 6
"""Least difference of two values in one chart, in the chart's two-digit units: 4 pixels of 128 and more."""

Layout = tuple[str, float, float, float, bool]
"""Bars or points; left margin, top margin, and the share of its slot that a bar fills; whether there is a frame."""

LAYOUTS = by_split(
    (mark, left, top, fill, frame)
    for mark in ("bar", "point")
    for left in (0.03, 0.08)
    for top in (0.18, 0.24)
    for fill in (0.5, 0.65, 0.8)
    for frame in (False, True)
)


@dataclass(frozen=True, slots=True)
class ChartScene:
    """Labels, values and colours from left to right, and how they are shown."""

    table: str
    labels: tuple[str, ...]
    values: tuple[int, ...]
    colours: tuple[str, ...]
    layout: Layout
    font: str
    background: RGB

    @property
    def mark(self) -> str:
        """What a value is shown as: bar or point."""
        return self.layout[0]

    def draw(self, size: int) -> Image.Image:
        mark, left, top, fill, frame = self.layout
        page = Image.new("RGB", (size, size), self.background)
        pen, ink = ImageDraw.Draw(page), outline(self.background)
        slot = (1 - 2 * left) * size / len(self.values)
        floor, ceiling = 0.86 * size, top * size
        centres = [left * size + (at + 0.5) * slot for at in range(len(self.values))]
        heights = [floor - (floor - ceiling) * value / max(self.values) for value in self.values]
        if frame:
            pen.rectangle((left * size - 1, 1, size - left * size, floor), outline=ink)
        pen.line((left * size - 1, floor, size - left * size, floor), fill=ink, width=max(1, size // 100))
        if mark == "point":
            pen.line(list(zip(centres, heights, strict=True)), fill=(128, 128, 128), width=max(1, size // 64))
        face = fitting_font(self.font, "WWW", int(0.94 * slot), int(0.1 * size))
        below = fitting_font(self.font, "0W", int(slot), int(0.085 * size))
        for x, y, label, value, colour in zip(centres, heights, self.labels, self.values, self.colours, strict=True):
            half = slot * fill / 2 if mark == "bar" else size * 0.035
            if mark == "bar":
                pen.rectangle((x - half, y, x + half, floor), fill=COLOURS[colour], outline=ink)
            else:
                pen.ellipse((x - half, y - half, x + half, y + half), fill=COLOURS[colour], outline=ink)
            over = y - size * 0.02 - (half if mark == "point" else 0)
            # A rim of background keeps the digits apart from the line that runs behind them.
            pen.text(
                (x, over), str(value), fill=ink, font=below, anchor="ms", stroke_width=1, stroke_fill=self.background
            )
            pen.text((x, floor + size * 0.03), label, fill=ink, font=face, anchor="mt")
        return page

    def describe(self) -> str:
        rows = zip(self.colours, self.labels, self.values, strict=True)
        return "the chart shows " + ", ".join(f"{colour} {label} {value}" for colour, label, value in rows) + "."

    def questions(self, rng: Random) -> list[Question]:
        mark, places = self.mark, range(len(self.values))
        asked = []
        for word, best in (("highest", max(places, key=self._value)), ("lowest", min(places, key=self._value))):
            asked.append(
                Question(f"what color is the {word} {mark}?", self.colours[best], "extreme_colour", COLOUR_NAMES)
            )
            asked.append(Question(f"what is the label of the {word} {mark}?", self.labels[best], "extreme_label"))
        options = tuple(str(n) for n in range(FEWEST, MOST + 1))
        asked.append(Question(f"how many {mark}s are there?", str(len(self.values)), "how_many", options))
        one, other = rng.sample(places, 2)
        text = f"is the {self.colours[one]} {mark} higher than the {self.colours[other]} {mark}?"
        asked.append(Question(text, "yes" if self.values[one] > self.values[other] else "no", "higher", ("yes", "no")))
        for at in rng.sample(places, FEWEST):
            asked.append(
                Question(f"what number is above the {self.colours[at]} {mark}?", str(self.values[at]), "value")
            )
            asked.append(Question(f"what is the label of the {self.colours[at]} {mark}?", self.labels[at], "label"))
        rng.shuffle(asked)
        return asked

    def _value(self, place: int) -> int:
        return self.values[place]


@dataclass(frozen=True, slots=True)
class Charts(Task):
    """Reading bar and line charts of real tables. A row of a table belongs to one split, and so does a layout."""

    name: ClassVar[str] = "charts"
    group: ClassVar[Group] = "ocr_chart"
    variants: ClassVar[Mapping[str, int]] = {
        "extreme_colour": 2, "extreme_label": 2, "how_many": 1, "higher": 1, "value": 2, "label": 2,
    }  # fmt: skip

    def contents(self) -> Contents:
        return Contents.joined([Task.contents(self), tables.contents()])

    def compose(self, rng: Random, split: Split) -> ChartScene:
        of_table = tables.panels()
        wanted = rng.randint(FEWEST, MOST)  # before the table, which could refuse many more often than few
        while True:
            # Tables first: each is as frequent as any other, however many rows it has.
            panel = rng.choice(of_table[rng.choice(tuple(of_table))])
            if side(panel) != split:
                continue
            chosen = _apart(rng, panel.values, wanted)
            if len(chosen) == wanted:
                break
        return ChartScene(
            table=panel.table,
            labels=tuple(panel.labels[at] for at in chosen),
            values=tuple(panel.values[at] for at in chosen),
            colours=tuple(rng.sample(COLOUR_NAMES, wanted)),
            layout=rng.choice(LAYOUTS[split]),
            font=rng.choice(FONTS[split]),
            background=rng.choice(BACKGROUNDS[split]),
        )


def _apart(rng: Random, values: tuple[int, ...], wanted: int) -> list[int]:
    """Up to ``wanted`` places in random order whose values can be told apart by eye."""
    chosen: list[int] = []
    for at in rng.sample(range(len(values)), len(values)):
        if all(abs(values[at] - values[other]) >= _CLEAR for other in chosen):
            chosen.append(at)
        if len(chosen) == wanted:
            break
    return chosen
