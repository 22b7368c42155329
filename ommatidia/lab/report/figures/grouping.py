"""Benchmarks by likeness: the correlation matrix beside its tree, and each benchmark as a point of two components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from ommatidia.eval.statistics.grouping import Components, Tree
from ommatidia.eval.statistics.run_scores import Array
from ommatidia.lab.report.figures.axis import Axis, spanning, spread
from ommatidia.lab.report.figures.plain import INKS, STYLE, sheet
from ommatidia.lab.report.figures.svg import Drawing, text_width

CELL, BRANCH, TOP = 34.0, 120.0, 56.0
_WARM, _COOL = (194, 82, 0), (0, 99, 166)


def correlation_matrix(names: Sequence[str], values_BB: Array, tree: Tree, *, title: str) -> str:
    """The SVG file: rows and columns in the tree's order, cells with their numbers, the tree on the right."""
    order = tree.order
    left = 20 + max(text_width(name, size=12) for name in names) + 10
    side = CELL * len(order)
    below = max(text_width(name, size=12) for name in names) + 24
    drawing = sheet(max(left + side + BRANCH + 30, text_width(title, size=15.5) + 40), TOP + side + below, title=title)
    for row, i in enumerate(order):
        y = TOP + row * CELL
        drawing.text(left - 8, y + CELL / 2 + 4, names[i], anchor="end")
        drawing.upright(left + row * CELL + CELL / 2 + 4, TOP + side + below / 2 - 4, names[i])
        for column, j in enumerate(order):
            _cell(drawing, left + column * CELL, y, float(values_BB[i, j]))
    _tree(drawing, tree, left + side + 8, TOP + CELL / 2)
    return drawing.standalone(STYLE)


def _cell(drawing: Drawing, x: float, y: float, value: float) -> None:
    if isnan(value):
        drawing.box(x, y, CELL, CELL, ink=("#ffffff", "#e4e7eb"))
        return
    tone, share = (_COOL if value >= 0 else _WARM), abs(value)
    fill = "#" + "".join(f"{round(255 + (part - 255) * share * 0.85):02x}" for part in tone)
    drawing.box(x, y, CELL, CELL, ink=(fill, "#ffffff"))
    text = f"{value:.2f}".replace("0.", ".", 1).replace("-", "−")
    style = "cell light" if share > 0.55 else "cell"
    drawing.text(x + CELL / 2, y + CELL / 2 + 4, "1" if text == "1.00" else text, style=style, anchor="middle")


def _tree(drawing: Drawing, tree: Tree, x: float, y: float) -> None:
    """Branches to the right: how far apart two groups are is how far out they meet."""
    furthest = max(distance for _, _, distance in tree.merges) or 1.0
    axis = Axis(0.0, furthest, x, x + BRANCH - 16)
    at = {leaf: (x, y + place * CELL) for place, leaf in enumerate(tree.order)}
    for number, (a, b, distance) in enumerate(tree.merges):
        meet = axis(distance)
        (xa, ya), (xb, yb) = at[a], at[b]
        drawing.path([(xa, ya), (meet, ya), (meet, yb), (xb, yb)], style="branch", title=f"distance {distance:.2f}")
        at[len(tree.order) + number] = (meet, (ya + yb) / 2)


def component_plane(
    names: Sequence[str], found: Components, groups: Mapping[str, str], *, title: str, width: float = 640
) -> str:
    """The SVG file: benchmarks as points coloured by their group."""
    height, right = 480.0, width - 150
    drawing = sheet(max(width, text_width(title, size=15.5) + 40), height, title=title)
    x = spanning([0.0, *(float(v) for v in found.places_BC[:, 0])], 60, right, margin=0.1)
    y = spanning([0.0, *(float(v) for v in found.places_BC[:, 1])], height - 60, TOP, margin=0.1)
    for tick in x.ticks(6):
        drawing.line((x(tick), TOP), (x(tick), height - 60), style="axis" if tick == 0 else "grid")
        drawing.text(x(tick), height - 43, f"{tick:g}".replace("-", "−"), style="tick", anchor="middle")
    for tick in y.ticks(6):
        drawing.line((60, y(tick)), (right, y(tick)), style="axis" if tick == 0 else "grid")
        drawing.text(53, y(tick) + 4, f"{tick:g}".replace("-", "−"), style="tick", anchor="end")
    first, second = (f"component {n}: {100 * found.explained_C[n - 1]:.0f} % of the variance" for n in (1, 2))
    drawing.text((60 + right) / 2, height - 20, first, anchor="middle")
    drawing.upright(20, (TOP + height - 60) / 2, second)
    inks = {group: number for number, group in enumerate(dict.fromkeys(groups.get(name, "other") for name in names))}
    places = [(x(float(a)), y(float(b))) for a, b in found.places_BC]
    # Labels of points that lie close together stand one below the other, each with a line to its point.
    heights = spread([py for _, py in places], gap=15, low=TOP + 6, high=height - 70)
    for name, (px, py), label in zip(names, places, heights, strict=True):
        drawing.line((px, py), (px + 12, label), style="leader")
        fill, edge = INKS[inks[groups.get(name, "other")] % len(INKS)]
        drawing.box(px - 5, py - 5, 10, 10, ink=(fill, edge), radius=5)
        drawing.text(px + 14, label + 4, name, style="label halo")
    for place, (group, ink) in enumerate(inks.items()):
        drawing.box(right + 20, TOP + 4 + 20 * place, 10, 10, ink=INKS[ink % len(INKS)], radius=5)
        drawing.text(right + 36, TOP + 13 + 20 * place, group.replace("_", " "))
    return drawing.standalone(STYLE)
