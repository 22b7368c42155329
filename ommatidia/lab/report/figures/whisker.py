"""Dot and whisker: the small image of a mean and its interval that stands in a table's cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from ommatidia.lab.report.figures.axis import Axis, spanning
from ommatidia.lab.report.figures.svg import Drawing
from ommatidia.lab.report.model import DesignRow, Interval
from ommatidia.lab.report.numbers import bracket, percent, signed

WIDTH, HEIGHT, EDGE = 176, 26, 8
GAIN_WIDTH = 132
TICKS = 5
OVERHANG = 120
"""How far rules run beyond the image: the style sheet clips them at the cell, so they meet from row to row."""


def average_axis(designs: Iterable[DesignRow]) -> Axis:
    """The axis all ranking rows share. A text-only design far below would squeeze the rest: it is left out."""
    rows = [d for d in designs if d.average is not None]
    seeing = [d for d in rows if not d.is_blind_model] or rows
    values = [
        v for d in seeing if d.average for v in (d.average.mean, *(d.average.bounds or ()), *d.seed_averages.values())
    ]
    return spanning(values, EDGE, WIDTH - EDGE, margin=0.04)


def gain_axis(intervals: Iterable[Interval]) -> Axis:
    """The axis all gains share; it always holds zero."""
    values = [v for i in intervals for v in (i.mean, *(i.bounds or ()))]
    return spanning([0.0, *values], EDGE, GAIN_WIDTH - EDGE)


def axis_head(axis: Axis, *, width: int, sign: bool = False) -> Markup:
    """The tick labels that stand in the table's heading, above the cells."""
    drawing = Drawing(width, 16, label="axis in percent")
    for tick in axis.ticks(TICKS):
        text = signed(tick).removesuffix(".0") if sign else percent(tick).removesuffix(".0")
        drawing.text(axis(tick), 11, text, style="tick", anchor="middle")
    return drawing.markup()


def average_cell(design: DesignRow, axis: Axis, *, best: float | None) -> Markup:
    """The average on the shared axis: whisker, dot, one faint dot a seed, and the best design's mean as a line."""
    if design.average is None:
        return Markup("")
    label = f"{percent(design.average.mean)} % {bracket(design.average)}".strip()
    drawing = Drawing(WIDTH, HEIGHT, label=label)
    _rules(drawing, axis, [best] if best is not None else [], below=OVERHANG)
    middle = HEIGHT / 2
    for seed, average in sorted(design.seed_averages.items()):
        if len(design.seed_averages) > 1 and axis.low <= average <= axis.high:
            drawing.dot(axis(average), middle + 7, radius=1.8, style="seed", title=f"seed {seed}: {percent(average)} %")
    _mark(drawing, design.average, axis, hollow=not design.final, label=label)
    return drawing.markup()


def gain_cell(interval: Interval, axis: Axis) -> Markup:
    """A gain on the shared axis, with a line at zero."""
    label = f"{signed(interval.mean)} {bracket(interval, sign=True)}".strip()
    drawing = Drawing(GAIN_WIDTH, HEIGHT, label=label)
    _rules(drawing, axis, [0.0], below=0)  # the numbers stand below the image
    clear = interval.bounds is not None and (interval.bounds[0] > 0 or interval.bounds[1] < 0)
    _mark(drawing, interval, axis, hollow=not clear, label=label)
    return drawing.markup()


def _rules(drawing: Drawing, axis: Axis, marked: Sequence[float], *, below: float) -> None:
    for tick in axis.ticks(TICKS):
        drawing.line((axis(tick), -OVERHANG), (axis(tick), HEIGHT + below), style="grid")
    for value in marked:
        drawing.line((axis(value), -OVERHANG), (axis(value), HEIGHT + below), style="reference")


def _mark(drawing: Drawing, interval: Interval, axis: Axis, *, hollow: bool, label: str) -> None:
    middle = HEIGHT / 2
    if interval.mean < axis.low or interval.mean > axis.high:  # off the axis: an arrow head at the edge it lies beyond
        edge, inward = (axis.start, 7) if interval.mean < axis.low else (axis.end, -7)
        points = [(edge - inward / 2, middle), (edge + inward / 2, middle - 4.5), (edge + inward / 2, middle + 4.5)]
        drawing.polygon(points, style="beyond", title=label)
        return
    if (bounds := interval.bounds) is not None:
        drawing.line((axis(bounds[0]), middle), (axis(bounds[1]), middle), style="whisker")
        for bound in bounds:
            if axis.low <= bound <= axis.high:
                drawing.line((axis(bound), middle - 4), (axis(bound), middle + 4), style="whisker")
    drawing.dot(axis(interval.mean), middle, radius=4.2, style="mark hollow" if hollow else "mark", title=label)
