"""Accuracy against cost on a logarithmic axis, with the Pareto front: numbers are ranks, shapes count encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ommatidia.lab.report.figures.axis import Axis, spanning
from ommatidia.lab.report.figures.svg import Drawing, text_width
from ommatidia.lab.report.model import DesignRow
from ommatidia.lab.report.numbers import bracket, percent, scaled

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 360, 52, 16, 14, 50
LABEL_SIZE = 11.5
SHAPES: dict[int, tuple[tuple[float, float], ...]] = {
    0: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
    2: ((0, -5.4), (5, 3.8), (-5, 3.8)),
    3: ((0, -6), (5.4, 0), (0, 6), (-5.4, 0)),
}
"""Corners by number of encoders (3: three or more); one encoder is a circle."""


@dataclass(frozen=True, slots=True)
class Point:
    """One design on the plane: its place in the ranking, its cost and its average (a fraction)."""

    rank: int
    design: DesignRow
    cost: float
    score: float


def points(designs: Sequence[DesignRow], cost: Callable[[DesignRow], float | None]) -> tuple[Point, ...]:
    """The designs that have both a score and a positive cost; ``designs`` in ranking order."""
    pairs = [(rank, design, cost(design)) for rank, design in enumerate(designs, start=1) if design.failed is None]
    return tuple(
        Point(r, d, c, d.average.mean) for r, d, c in pairs if c is not None and c > 0 and d.average is not None
    )


def pareto_front(found: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other beats on score at the same or a lower cost, by rising cost."""
    front: list[Point] = []
    for point in sorted(found, key=lambda p: (p.cost, -p.score, p.rank)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return tuple(front)


def accuracy_against_cost(found: Sequence[Point], *, axis_title: str, unit: str) -> Markup:
    """The image, or nothing when there is no point."""
    if not found:
        return Markup("")
    drawing = Drawing(WIDTH, HEIGHT, label=f"Average score against {axis_title}, with the Pareto front")
    x = spanning([p.cost for p in found], LEFT, WIDTH - RIGHT, margin=0.06, log=True)
    y = _score_axis(found)
    _frame(drawing, x, y, axis_title=axis_title, unit=unit)
    front = pareto_front(found)
    corners = [(x(front[0].cost), y(front[0].score))]
    for point in front[1:]:
        corners += [(x(point.cost), corners[-1][1]), (x(point.cost), y(point.score))]
    drawing.path([*corners, (WIDTH - RIGHT, corners[-1][1])], style="front")
    for point in found:
        if (bounds := _finals_bounds(point)) and point.score >= y.low:
            drawing.line((x(point.cost), y(bounds[0])), (x(point.cost), y(bounds[1])), style="whisker thin")
    for point in reversed(found):
        _marker(drawing, point, x(point.cost), y(point.score), unit=unit, low=y.low)
    on_front = {p.rank for p in front}
    for label, at in _labels(found, x, y, on_front):
        drawing.text(*at, str(label), style="label strong halo" if label in on_front else "tick halo", anchor="middle")
    return drawing.markup()


def key_marker(encoders: int, *, final: bool) -> Markup:
    """A legend's image of one kind of point."""
    drawing = Drawing(16, 16, label="")
    _shape(drawing, encoders, 8, 8, final=final, title="")
    return drawing.markup()


def _finals_bounds(point: Point) -> tuple[float, ...]:
    """Whiskers only where several seeds stand behind them: on every point they would cover the image."""
    return point.design.average.bounds or () if point.design.final and point.design.average else ()


def _score_axis(found: Sequence[Point]) -> Axis:
    """A text-only design far below would squeeze all others: it does not widen the axis, and is drawn at its edge."""
    seeing = [p for p in found if not p.design.is_blind_model] or found
    return spanning([v for p in seeing for v in (p.score, *_finals_bounds(p))], HEIGHT - BOTTOM - 20, TOP)


def _frame(drawing: Drawing, x: Axis, y: Axis, *, axis_title: str, unit: str) -> None:
    for tick in y.ticks(6):
        drawing.line((LEFT, y(tick)), (WIDTH - RIGHT, y(tick)), style="grid")
        drawing.text(LEFT - 8, y(tick) + 4, percent(tick).removesuffix(".0"), style="tick", anchor="end")
    for tick in x.ticks(5):
        drawing.line((x(tick), TOP), (x(tick), HEIGHT - BOTTOM), style="grid")
        drawing.text(x(tick), HEIGHT - BOTTOM + 17, _short(tick, unit), style="tick", anchor="middle")
    drawing.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, f"{axis_title}, log scale", style="tick", anchor="middle")
    drawing.upright(13, (TOP + HEIGHT - BOTTOM) / 2, "average score, %", style="tick")


def _short(value: float, unit: str) -> str:
    """A tick label without the trailing zeros that a table wants."""
    head, _, tail = scaled(value, unit).partition(" ")
    return f"{float(head):g} {tail}".replace("FLOP", "").strip()


def _marker(drawing: Drawing, point: Point, x: float, y: float, *, unit: str, low: float) -> None:
    design = point.design
    title = (
        f"{point.rank}. {design.name}: {percent(point.score)} % {bracket(design.average)}, {scaled(point.cost, unit)}"
    )
    if point.score < low:
        # Left of its marker: cheap as it is, other designs lie to the right.
        drawing.text(x - 9, y + 4, f"{percent(point.score)} %", style="tick halo", anchor="end")
        drawing.line((x, y + 5), (x, y + 13), style="whisker thin")
        drawing.polygon([(x - 3.5, y + 10), (x + 3.5, y + 10), (x, y + 15)], style="down")
    _shape(drawing, len(design.encoders), x, y, final=design.final, title=title)


def _shape(drawing: Drawing, encoders: int, x: float, y: float, *, final: bool, title: str) -> None:
    style = f"mark e{min(encoders, 3)}" + ("" if final else " hollow")
    if encoders == 1:
        drawing.dot(x, y, radius=4.6, style=style, title=title)
        return
    corners = SHAPES[min(encoders, 3)]
    drawing.polygon([(x + dx, y + dy) for dx, dy in corners], style=style, title=title)


def _labels(found: Sequence[Point], x: Axis, y: Axis, on_front: set[int]) -> list[tuple[int, tuple[float, float]]]:
    """Rank numbers where they cover nothing; the front first, and a number that finds no place is left out."""
    taken = [(x(p.cost) - 6, y(p.score) - 6, x(p.cost) + 6, y(p.score) + 6) for p in found]
    placed = []
    for point in sorted(found, key=lambda p: (p.rank not in on_front, p.rank)):
        px, py, half = x(point.cost), y(point.score), text_width(str(point.rank), size=LABEL_SIZE) / 2 + 1
        shift = half + 8
        offsets = [(0, -9), (0, 18), (-shift, 4), (shift, 4), (-shift, -7), (shift, -7), (-shift, 15), (shift, 15)]
        for dx, dy in offsets:
            box = (px + dx - half, py + dy - LABEL_SIZE + 2, px + dx + half, py + dy + 1)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                placed.append((point.rank, (px + dx, py + dy)))
                break
    return placed


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
