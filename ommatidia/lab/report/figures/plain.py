"""The look of figures that are files of their own: a white ground, so that they read on light and dark pages alike."""

from __future__ import annotations

from ommatidia.lab.report.figures.svg import Drawing

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; font-size: 12px;
  fill: #3e4c59; font-variant-numeric: tabular-nums; }
.title { font-size: 15px; font-weight: 650; fill: #1f2933; }
.heading { font-size: 12.5px; font-weight: 620; fill: #1f2933; }
.tick, .small { font-size: 11px; fill: #616e7c; }
.cell { font-size: 11px; fill: #1f2933; }
.ground { fill: #ffffff; stroke: #d5dae1; }
.grid { stroke: #e4e7eb; stroke-width: 1; }
.axis { stroke: #9aa5b1; stroke-width: 1; }
.reference { stroke: #52606d; stroke-width: 1.2; stroke-dasharray: 3 3; }
.whisker { stroke: #1f2933; stroke-width: 1.2; }
.leader { stroke: #b6bec8; stroke-width: 0.8; }
.branch { fill: none; stroke: #616e7c; stroke-width: 1.3; }
.halo { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
.light { fill: #ffffff; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.c0 { stroke: #0063a6; } .c1 { stroke: #c25200; } .c2 { stroke: #00805c; } .c3 { stroke: #a5497f; }
.c4 { stroke: #8a6a00; } .c5 { stroke: #4a4fb5; }
.band { fill-opacity: 0.13; stroke: none; }
.band.c0 { fill: #0063a6; } .band.c1 { fill: #c25200; } .band.c2 { fill: #00805c; } .band.c3 { fill: #a5497f; }
.band.c4 { fill: #8a6a00; } .band.c5 { fill: #4a4fb5; }
.dashed { stroke-dasharray: 6 4; }
"""
INKS = (
    *(("#bcd8f0", "#0063a6"), ("#f6d2b3", "#c25200"), ("#b9e2d3", "#00805c")),
    *(("#ecc9de", "#a5497f"), ("#eadca6", "#8a6a00"), ("#cfd1f2", "#4a4fb5")),
)
"""Fill and edge by number, safe for the colour-blind."""
CALM = ("#dfe4ea", "#7b8794")


def sheet(width: float, height: float, *, title: str) -> Drawing:
    """An empty figure with its ground and its title."""
    drawing = Drawing(width, height, label=title)
    drawing.box(0.5, 0.5, width - 1, height - 1, style="ground", radius=8)
    drawing.text(20, 30, title, style="title")
    return drawing
