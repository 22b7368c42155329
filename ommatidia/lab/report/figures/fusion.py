"""The drawing of a fusion: encoders on the left, what happens to each, where they meet, the grid that comes out.

All fusions share one image language. Colours stand for encoders; amber boxes learn, white ones do not; a finer grid
has more cells, and a cell of the result shows what is in it. The file brings its own white ground and text colours, so
that it reads on light and dark pages alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2

from ommatidia.core.grid import Grid
from ommatidia.lab.report.figures.svg import Drawing, text_width
from ommatidia.models.fusion.sketch import Box, Sketch, Tiles

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; font-size: 12px;
  fill: #52606d; }
.name { font-size: 13px; font-weight: 600; fill: #1f2933; }
.ground { fill: #ffffff; stroke: #d5dae1; }
.learned { fill: #fdeac7; stroke: #c98a12; stroke-width: 1.3; }
.plain { fill: #ffffff; stroke: #9aa5b1; stroke-width: 1.3; }
.question { fill: #f1f3f5; stroke: #7b8794; stroke-dasharray: 3 3; }
.arrow { fill: none; stroke: #616e7c; stroke-width: 1.4; }
.tip { fill: #616e7c; }
"""
INKS = (
    ("#cfe3f7", "#2f80c2"),
    ("#cdebd6", "#3f9153"),
    ("#e3d8f5", "#7b5ea7"),
    ("#f9d8d0", "#bd5a48"),
    ("#cdecef", "#2b8c96"),
)
"""Fill and edge of each encoder in turn."""
MIXED = ("#f4dfae", "#a9781a")

MARGIN, LANE, GAP, ICON, LINE = 22.0, 122.0, 30.0, 60.0, 16.0


@dataclass(frozen=True, slots=True)
class _Icon:
    """A grid as cells: how many, and how large each is drawn."""

    rows: int
    columns: int
    cell: float

    @property
    def width(self) -> float:
        return self.columns * self.cell

    @property
    def height(self) -> float:
        return self.rows * self.cell


def draw(kind: str, sketch: Sketch, grids: Mapping[str, Grid], out: Grid) -> str:
    """The image as the text of an SVG file."""
    names = list(grids)
    lanes = [sketch.lanes.get(name, ()) for name in names]
    over = 16.0 if sketch.passes else 0.0
    under = 46.0 if sketch.question else 0.0
    ys = [MARGIN + 20 + over + LANE * i + ICON / 2 for i in range(len(names))]
    height = ys[-1] + ICON / 2 + 28 + MARGIN + max(under - 34, 0)
    start = MARGIN + max(ICON, *(text_width(str(grid), size=12) for grid in grids.values()))
    columns = [
        max((_width(lane[i]) for lane in lanes if len(lane) > i), default=0.0) for i in range(max(map(len, lanes)))
    ]
    meet = start + sum(GAP + width for width in columns) + GAP
    steps = [sketch.join, *sketch.after]
    target = _fused(sketch.tiles, out, len(names))
    width = meet + sum(_width(step) + GAP for step in steps) + (22 + GAP if sketch.passes else 0)
    room = max(
        target.width + 8 * (len(names) - 1),
        text_width(f"{out.tokens:,} tokens", size=12),
        text_width(str(out), size=12),
    )
    drawing = Drawing(width + room + MARGIN, height, label=f"{kind}: {', '.join(names)} become {out}")
    drawing.box(0.5, 0.5, drawing.width - 1, height - 1, style="ground", radius=10)
    for i, (name, grid) in enumerate(grids.items()):
        _encoder(drawing, name, grid, ys[i], MARGIN + (start - MARGIN) / 2, INKS[i % len(INKS)])
    edge = MARGIN + (start - MARGIN) / 2 + ICON / 2 + 4
    for lane, y in zip(lanes, ys, strict=True):
        x = edge
        left = start
        for box, room_for in zip(lane, columns, strict=False):
            left += GAP
            _arrow(drawing, [(x, y), (left, y)])
            _box(drawing, box, left, y, width=room_for)
            x = left = left + room_for
        _arrow(drawing, [(x, y), (meet, y)])
    if sketch.steered is not None:
        target_y = ys[names.index(sketch.steered)]
        for y in ys:
            if y != target_y:
                side = target_y + (12 if y > target_y else -12)
                _arrow(drawing, [(edge + 12, y), (edge + 12, side), (start + GAP, side)])
    _meeting(drawing, sketch, steps, meet, ys, edge)
    middle = (ys[0] + ys[-1]) / 2
    _result(drawing, sketch.tiles, target, out, width, middle, len(names))
    return drawing.standalone(STYLE)


def _meeting(
    drawing: Drawing, sketch: Sketch, steps: Sequence[Box], x: float, ys: Sequence[float], edge: float
) -> None:
    """The box where the lanes meet, what goes around it, and what follows."""
    middle, span = (ys[0] + ys[-1]) / 2, ys[-1] - ys[0]
    first, *others = steps
    tall = max(span + 56, _height(first))
    _box(drawing, first, x, middle, width=_width(first), height=tall)
    if sketch.question:
        centre, below = x + _width(first) / 2, middle + tall / 2
        drawing.box(centre - 36, below + 20, 72, 24, style="question", radius=12)
        drawing.text(centre, below + 36, "question", anchor="middle")
        _arrow(drawing, [(centre, below + 20), (centre, below)])
    x += _width(first)
    if sketch.passes is not None:
        plus, top = x + GAP + 11, ys[0] - ICON / 2 - 24
        _arrow(drawing, [(x, middle), (plus - 11, middle)])
        drawing.path([(edge + 12, ys[0]), (edge + 12, top), (plus, top)], style="arrow")
        _arrow(drawing, [(plus, top), (plus, middle - 11)])
        drawing.dot(plus, middle, radius=11, style="plain")
        drawing.line((plus - 5, middle), (plus + 5, middle), style="arrow")
        drawing.line((plus, middle - 5), (plus, middle + 5), style="arrow")
        x = plus + 11
    for box in others:
        _arrow(drawing, [(x, middle), (x + GAP, middle)])
        _box(drawing, box, x + GAP, middle, width=_width(box))
        x += GAP + _width(box)
    _arrow(drawing, [(x, middle), (x + GAP - 6, middle)])


def _encoder(drawing: Drawing, name: str, grid: Grid, y: float, x: float, ink: tuple[str, str]) -> None:
    drawing.text(x, y - ICON / 2 - 8, name, style="name", anchor="middle")
    icon = _cells(grid.height, grid.width)
    for row, column, left, top in _places(icon, x - icon.width / 2, y - icon.height / 2):
        del row, column
        drawing.box(left, top, icon.cell, icon.cell, ink=ink)
    drawing.text(x, y + ICON / 2 + 18, str(grid), anchor="middle")


def _result(drawing: Drawing, tiles: Tiles, icon: _Icon, out: Grid, x: float, y: float, encoders: int) -> None:
    """The fused grid, its cells coloured by what they hold, and its size."""
    lines = (str(out), f"{out.tokens:,} tokens")
    x += max(max(text_width(line, size=12) for line in lines) - icon.width, 0) / 2
    inks = [INKS[i % len(INKS)] for i in range(encoders)]
    top = y - icon.height / 2
    if tiles == "channels":  # sheets behind one another
        for i in reversed(range(encoders)):
            shift = 8.0 * i
            for _, _, left, high in _places(icon, x + shift, top - shift):
                drawing.box(left, high, icon.cell, icon.cell, ink=inks[i])
    else:
        for row, column, left, high in _places(icon, x, top):
            turn = column % encoders if tiles == "columns" else row * encoders // icon.rows if tiles == "rows" else 0
            ink = MIXED if tiles in ("sum", "queries") else inks[turn]
            drawing.box(left, high, icon.cell, icon.cell, ink=ink)
            if tiles == "enriched" and encoders > 1:
                for i, other in enumerate(inks[1:]):
                    size = icon.cell * 0.42 / (encoders - 1)
                    drawing.box(
                        left + icon.cell * 0.29 + i * size, high + icon.cell * 0.29, size, icon.cell * 0.42, ink=other
                    )
    low = y + icon.height / 2 + 18
    for i, line in enumerate(lines):
        drawing.text(x + icon.width / 2, low + LINE * i, line, anchor="middle")


def _fused(tiles: Tiles, out: Grid, encoders: int) -> _Icon:
    if tiles == "queries":
        return _Icon(1, 10, 11)
    if tiles == "columns":
        inner = _cells(out.height, out.width // encoders)
        return _Icon(inner.rows, inner.columns * encoders, inner.cell * 0.8)
    if tiles == "rows":
        inner = _cells(out.height // encoders, out.width)
        return _Icon(inner.rows * encoders, inner.columns, inner.cell * 0.8)
    return _cells(out.height, out.width)


def _cells(height: int, width: int) -> _Icon:
    """More cells for a finer grid, by its logarithm: 4 for 32, 6 for 64, 8 for 128."""
    rows, columns = (min(max(round(2 * log2(side) - 6), 1 if side == 1 else 2), 9) for side in (height, width))
    return _Icon(rows, columns, ICON / max(rows, columns))


def _places(icon: _Icon, left: float, top: float) -> Iterator[tuple[int, int, float, float]]:
    for row in range(icon.rows):
        for column in range(icon.columns):
            yield row, column, left + column * icon.cell, top + row * icon.cell


def _lines(box: Box) -> list[str]:
    return [line for line in (box.name, box.detail, box.note) if line]


def _width(box: Box) -> float:
    name, *others = _lines(box)
    return 24 + max(text_width(name, size=14), *(text_width(line, size=12) for line in ["", *others]))


def _height(box: Box) -> float:
    return 16 + LINE * len(_lines(box))


def _box(drawing: Drawing, box: Box, x: float, y: float, *, width: float, height: float | None = None) -> None:
    height = height or _height(box)
    drawing.box(x, y - height / 2, width, height, style="learned" if box.learned else "plain", radius=6)
    lines = _lines(box)
    for i, line in enumerate(lines):
        baseline = y + 4.5 + LINE * (i - (len(lines) - 1) / 2)
        drawing.text(x + width / 2, baseline, line, style="name" if i == 0 else "label", anchor="middle")


def _arrow(drawing: Drawing, points: Sequence[tuple[float, float]]) -> None:
    """A line whose last piece ends in a tip; the last piece is level or upright."""
    (x1, y1), (x2, y2) = points[-2:]
    length = max(abs(x2 - x1), abs(y2 - y1)) or 1.0
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    drawing.path([*points[:-1], (x2 - 5 * dx, y2 - 5 * dy)], style="arrow")
    base = (x2 - 7 * dx, y2 - 7 * dy)
    drawing.polygon(
        [(x2, y2), (base[0] - 3.5 * dy, base[1] + 3.5 * dx), (base[0] + 3.5 * dy, base[1] - 3.5 * dx)], style="tip"
    )
