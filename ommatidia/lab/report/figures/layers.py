"""Curves over the layers of a language model, one a checkpoint, each with the band of its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ommatidia.lab.report.figures.axis import Axis, spanning, spread
from ommatidia.lab.report.figures.plain import STYLE, sheet
from ommatidia.lab.report.figures.svg import text_width

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 560.0, 400.0, 64.0, 52.0, 56.0


def layer_curves(title: str, curves: Mapping[str, Sequence[tuple[float, float, float]]], *, what: str) -> str:
    """The SVG file; a curve is (value, low, high) by state, the first of them the embeddings."""
    right = WIDTH - 20
    widest = max(text_width(name, size=12) for name in curves)
    drawing = sheet(max(WIDTH + widest + 20, text_width(title, size=15.5) + 40), HEIGHT, title=title)
    last = max(len(curve) for curve in curves.values()) - 1
    x = Axis(0.0, float(max(last, 1)), LEFT, right)
    y = spanning([v for curve in curves.values() for point in curve for v in point], HEIGHT - BOTTOM, TOP)
    for tick in y.ticks(6):
        drawing.line((LEFT, y(tick)), (right, y(tick)), style="grid")
        drawing.text(LEFT - 8, y(tick) + 4, f"{tick:g}".replace("-", "−"), style="tick", anchor="end")
    for tick in (t for t in x.ticks(8) if t == int(t)):
        drawing.line((x(tick), HEIGHT - BOTTOM), (x(tick), HEIGHT - BOTTOM + 4), style="axis")
        drawing.text(x(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", style="tick", anchor="middle")
    drawing.text((LEFT + right) / 2, HEIGHT - 14, "behind block (0: embeddings)", anchor="middle")
    drawing.upright(20, (TOP + HEIGHT - BOTTOM) / 2, what)
    heights = spread([y(curve[-1][0]) for curve in curves.values()], gap=15, low=TOP + 6, high=HEIGHT - BOTTOM)
    for number, ((name, curve), label) in enumerate(zip(curves.items(), heights, strict=True)):
        ink = f"c{number % 6}"
        band = [(x(n), y(high)) for n, (_, _, high) in enumerate(curve)]
        band += [(x(n), y(low)) for n, (_, low, _) in reversed(list(enumerate(curve)))]
        drawing.polygon(band, style=f"band {ink}")
        drawing.path([(x(n), y(value)) for n, (value, _, _) in enumerate(curve)], style=f"curve {ink}", title=name)
        end = (x(len(curve) - 1), y(curve[-1][0]))
        drawing.line(end, (right + 8, label), style="leader")
        drawing.text(right + 12, label + 4, name, style="label strong")
    return drawing.standalone(STYLE)
