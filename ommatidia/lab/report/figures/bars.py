"""Small multiples of bars: one panel a benchmark, one bar a variant, with whiskers and a line to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ommatidia.lab.report.figures.axis import Axis
from ommatidia.lab.report.figures.plain import CALM, INKS, STYLE, sheet
from ommatidia.lab.report.figures.svg import Drawing, text_width
from ommatidia.lab.report.numbers import percent

TOP, PANEL, BAR, STEP, GAP, VALUE, ACROSS = 52.0, 150.0, 13.0, 21.0, 26.0, 34.0, 5


@dataclass(frozen=True, slots=True)
class Bar:
    """A share from 0 to 1, with the bounds of its interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


def bars(
    title: str,
    rows: Mapping[str, int | None],
    panels: Mapping[str, Mapping[str, Bar]],
    *,
    reference: str | None = None,
) -> str:
    """The SVG file. ``rows`` names the bars from top to bottom, each with the number of its ink (None: gray);
    ``panels`` holds them by panel; ``reference`` is the row whose value is drawn as a line through its panel."""
    left = 20 + max(text_width(name, size=12) for name in rows) + 12
    names = list(panels)
    lines = [names[start : start + ACROSS] for start in range(0, len(names), ACROSS)]
    height = STEP * len(rows) + 46
    width = left + min(len(names), ACROSS) * (PANEL + GAP + VALUE) + 4
    drawing = sheet(max(width, 20 + text_width(title, size=15.5) + 20), TOP + height * len(lines) + 8, title=title)
    top = max((b.high or b.value for panel in panels.values() for b in panel.values()), default=1.0)
    limit = next((end for end in (0.1, 0.2, 0.4, 0.6, 0.8) if top <= end + 1e-9), 1.0)
    for line, inside in enumerate(lines):
        y = TOP + line * height
        for place, row in enumerate(rows):
            drawing.text(left - 10, y + 24 + place * STEP + BAR - 2, row, anchor="end")
        for column, name in enumerate(inside):
            start = left + column * (PANEL + GAP + VALUE)
            _panel(drawing, name, rows, panels[name], Axis(0.0, limit, start, start + PANEL), y, reference)
    return drawing.standalone(STYLE)


def _panel(
    drawing: Drawing,
    name: str,
    rows: Mapping[str, int | None],
    found: Mapping[str, Bar],
    axis: Axis,
    y: float,
    reference: str | None,
) -> None:
    bottom = y + 20 + STEP * len(rows)
    drawing.text(axis.start, y + 12, name, style="heading")
    for tick in axis.ticks(2):
        drawing.line((axis(tick), y + 20), (axis(tick), bottom), style="axis" if tick == 0 else "grid")
        drawing.text(axis(tick), bottom + 13, percent(tick).removesuffix(".0"), style="tick", anchor="middle")
    ends: list[tuple[float, float, str]] = []
    for place, (row, ink) in enumerate(rows.items()):
        if (bar := found.get(row)) is None:
            continue
        top = y + 24 + place * STEP
        drawing.box(
            axis.start, top, max(axis(bar.value) - axis.start, 0.6), BAR, ink=CALM if ink is None else _ink(ink)
        )
        right = axis(bar.value)
        if bar.low is not None and bar.high is not None:
            drawing.line((axis(bar.low), top + BAR / 2), (axis(bar.high), top + BAR / 2), style="whisker")
            for bound in (bar.low, bar.high):
                drawing.line((axis(bound), top + 3), (axis(bound), top + BAR - 3), style="whisker")
            right = max(right, axis(bar.high))
        ends.append((right + 5, top + BAR - 2.5, percent(bar.value)))
    if reference is not None and reference in found:
        at = axis(found[reference].value)
        drawing.line((at, y + 20), (at, bottom), style="reference")
    for x, below, text in ends:  # over the line, so that none is crossed out
        drawing.text(x, below, text, style="small halo")


def _ink(number: int) -> tuple[str, str]:
    return INKS[number % len(INKS)]
