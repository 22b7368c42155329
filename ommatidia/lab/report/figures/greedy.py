"""The greedy path: rounds from left to right, each tried expert with its interval, a line through those kept."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from ommatidia.lab.report.figures.axis import Axis, spanning, spread
from ommatidia.lab.report.figures.svg import Drawing, text_width
from ommatidia.lab.report.greedy_words import outcome
from ommatidia.lab.report.model import Candidate, GreedyRound, Interval
from ommatidia.lab.report.numbers import bracket, percent, signed

HEIGHT, TOP, BOTTOM, LEFT = 400, 40, 46, 58
STEP = 13
"""Pixels from one candidate's whisker to the next."""
LABEL_SIZE, LABEL_GAP = 12, 15


@dataclass(frozen=True, slots=True)
class _Column:
    """One round's place: where its whiskers start, where its labels start, and its right edge."""

    shown: tuple[Candidate, ...]
    left: float
    labels: float
    right: float


def greedy_path(rounds: tuple[GreedyRound, ...]) -> Markup:
    """The image, or nothing when no round has a score. Columns grow with their labels: the page may scroll it."""
    intervals = [r.base_average for r in rounds] + [c.average for r in rounds for c in r.tried]
    values = [v for i in intervals if i for v in (i.mean, *(i.bounds or ()))]
    if not values:
        return Markup("")
    columns = _columns(rounds)
    drawing = Drawing(
        columns[-1].right + 8, HEIGHT, label="The greedy search: average score of each tried expert by round"
    )
    axis = spanning(values, HEIGHT - BOTTOM, TOP)
    _frame(drawing, axis)
    path = _start(drawing, axis, rounds[0].base_average)
    for column in columns:  # the whole path first, so that dots and labels lie on top of it
        path = _path(drawing, axis, path, column)
    for greedy_round, column in zip(rounds, columns):
        _round(drawing, axis, greedy_round, column)
    return drawing.markup()


def _columns(rounds: tuple[GreedyRound, ...]) -> tuple[_Column, ...]:
    """Side by side from left to right; a start column is left free when the first base has a score of its own."""
    edge: float = LEFT + (64 if rounds[0].base_average is not None else 0)
    columns = []
    for greedy_round in rounds:
        shown = sorted(
            (c for c in greedy_round.tried if c.average), key=lambda c: -c.average.mean if c.average else 0.0
        )
        first = edge + 18
        labels = first + STEP * max(len(shown) - 1, 0) + 16
        widest = max((text_width(_label(c), size=LABEL_SIZE) for c in shown), default=40)
        right = max(labels + widest + 10, edge + 130)
        columns.append(_Column(tuple(shown), first, labels, right))
        edge = right
    return tuple(columns)


def _label(candidate: Candidate) -> str:
    gain = f" {signed(candidate.gain.mean)}" if candidate.gain else ""
    return f"{candidate.expert}{gain}"


def _frame(drawing: Drawing, axis: Axis) -> None:
    for tick in axis.ticks(6):
        drawing.line((LEFT, axis(tick)), (drawing.width, axis(tick)), style="grid")
        drawing.text(LEFT - 8, axis(tick) + 4, percent(tick).removesuffix(".0"), style="tick", anchor="end")
    drawing.upright(14, (TOP + HEIGHT - BOTTOM) / 2, "average score, %", style="tick")


def _start(drawing: Drawing, axis: Axis, base: Interval | None) -> tuple[float, float] | None:
    if base is None:
        return None
    x, y = LEFT + 30, axis(base.mean)
    if base.bounds:
        drawing.line((x, axis(base.bounds[0])), (x, axis(base.bounds[1])), style="whisker")
    drawing.dot(x, y, radius=5, style="mark", title=f"start: {percent(base.mean)} % {bracket(base)}")
    drawing.text(x, 18, "Start", style="heading", anchor="middle")
    return x, y


def _path(
    drawing: Drawing, axis: Axis, start: tuple[float, float] | None, column: _Column
) -> tuple[float, float] | None:
    """The line from the last kept point to this round's; where nothing was kept the path ends."""
    for place, candidate in enumerate(column.shown):
        if candidate.kept and candidate.average:
            end = (column.left + STEP * place, axis(candidate.average.mean))
            if start is not None:
                drawing.path([start, end], style="path")
            return end
    return start


def _round(drawing: Drawing, axis: Axis, greedy_round: GreedyRound, column: _Column) -> None:
    edge = column.left - 18
    drawing.line((edge, TOP - 8), (edge, HEIGHT - BOTTOM), style="divider")
    drawing.text(column.left - 4, 18, f"Round {greedy_round.number}", style="heading")
    if greedy_round.base_average is not None:
        level = axis(greedy_round.base_average.mean)
        drawing.line((edge, level), (column.right, level), style="reference")
    wanted = [axis(c.average.mean) if c.average else 0.0 for c in column.shown]
    # The path leaves a kept dot to the right: its label stands a little above the line.
    beside = [y - 9 if c.kept else y for c, y in zip(column.shown, wanted)]
    heights = spread(beside, gap=LABEL_GAP, low=TOP, high=HEIGHT - BOTTOM - 4)
    for place, (candidate, y, label_y) in enumerate(zip(column.shown, wanted, heights)):
        _candidate(drawing, axis, candidate, (column.left + STEP * place, y), (column.labels, label_y))
    kept = next((c for c in column.shown if c.kept), None)
    lost = len(greedy_round.tried) - len(column.shown)
    note = f"{outcome(kept, greedy_round)}: {kept.expert}" if kept else "nothing kept"
    drawing.text(column.left - 4, HEIGHT - 24, note, style="label strong" if kept else "label")
    if lost:
        drawing.text(column.left - 4, HEIGHT - 8, f"{lost} without a score", style="tick")


def _candidate(
    drawing: Drawing, axis: Axis, candidate: Candidate, at: tuple[float, float], label_at: tuple[float, float]
) -> None:
    (x, y), (label_x, label_y) = at, label_at
    interval = candidate.average
    if interval is None:
        return
    drawing.line((x + 5, y), (label_x - 3, label_y), style="leader")
    if interval.bounds:
        drawing.line((x, axis(interval.bounds[0])), (x, axis(interval.bounds[1])), style="whisker")
    title = f"{candidate.expert}: {percent(interval.mean)} % {bracket(interval)}".strip()
    drawing.dot(
        x, y, radius=5.5 if candidate.kept else 4, style="mark" if candidate.kept else "mark hollow", title=title
    )
    style = "label strong halo" if candidate.kept else "label halo"
    drawing.text(label_x, label_y + 4, _label(candidate), style=style)
