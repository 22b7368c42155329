"""Loss curves: one panel a stage; the leading final designs in colour, all others grey, equal runs drawn once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ommatidia.lab.report.figures.axis import Axis, spanning
from ommatidia.lab.report.figures.svg import Drawing
from ommatidia.lab.report.model import Curve, DesignRow
from ommatidia.lab.report.numbers import plural

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 372, 216, 46, 10, 8, 36
COLOURS = 6
"""How many designs are told apart by colour and dash; more would not be told apart at all."""
POINT_BUDGET = 60_000
"""Points drawn on the whole page, so that a long search still makes a small page."""
MOST_POINTS = 120


@dataclass(frozen=True, slots=True)
class Panel:
    """One stage: its name, its image and how many runs it shows."""

    stage: str
    picture: Markup
    runs: int


@dataclass(frozen=True, slots=True)
class _Run:
    """One distinct curve and the designs (by place in the ranking, from 0) that share it."""

    curve: Curve
    seed: int
    owners: tuple[int, ...]


def coloured(designs: Sequence[DesignRow]) -> tuple[DesignRow, ...]:
    """The designs that get a colour: the first final ones, or the first of all when none is final."""
    with_curves = [d for d in designs if d.curves]
    return tuple(([d for d in with_curves if d.final] or with_curves)[:COLOURS])


def loss_panels(designs: Sequence[DesignRow]) -> tuple[Panel, ...]:
    """One panel for each stage in the order in which stages first appear; ``designs`` in ranking order."""
    stages: dict[str, dict[tuple[int, Curve], list[int]]] = {}
    for place, design in enumerate(designs):
        for seed, curves in sorted(design.curves.items()):
            for curve in curves:
                if clean := _finite(curve):
                    stages.setdefault(curve.stage, {}).setdefault((seed, clean), []).append(place)
    total = sum(len(runs) for runs in stages.values())
    most = max(20, min(MOST_POINTS, POINT_BUDGET // max(total, 1)))
    style_of = {d.key: f"c{i}" for i, d in enumerate(coloured(designs))}
    panels = []
    for stage in sorted(stages, key=lambda name: -_distance_from_end(name, designs)):
        found = stages[stage]
        runs = [_Run(thinned(curve, most), seed, tuple(owners)) for (seed, curve), owners in found.items()]
        panels.append(Panel(stage, _panel(stage, runs, designs, style_of), len(runs)))
    return tuple(panels)


def thinned(curve: Curve, most: int) -> Curve:
    """At most ``most`` points: each is the mean of a stretch of steps, so noise falls but no trend is lost."""
    count = len(curve.steps)
    if count <= most:
        return curve
    edges = [round(i * count / most) for i in range(most + 1)]
    stretches = list(itertools.pairwise(edges))
    steps = tuple(round(sum(curve.steps[a:b]) / (b - a)) for a, b in stretches)
    losses = tuple(sum(curve.losses[a:b]) / (b - a) for a, b in stretches)
    return Curve(curve.stage, steps, losses)


def _distance_from_end(stage: str, designs: Sequence[DesignRow]) -> int:
    """How many stages of a run may follow ``stage``: panels stand in the order of training, joint stages last."""
    runs = (curves for design in designs for curves in design.curves.values())
    return max(len(curves) - place for curves in runs for place, c in enumerate(curves) if c.stage == stage)


def _finite(curve: Curve) -> Curve | None:
    pairs = [(s, v) for s, v in zip(curve.steps, curve.losses) if math.isfinite(v)]
    return Curve(curve.stage, tuple(s for s, _ in pairs), tuple(v for _, v in pairs)) if pairs else None


def _panel(stage: str, runs: list[_Run], designs: Sequence[DesignRow], style_of: dict[str, str]) -> Markup:
    drawing = Drawing(WIDTH, HEIGHT, label=f"Training loss of stage {stage}, {plural(len(runs), 'run')}")
    losses = [v for run in runs for v in run.curve.losses]
    log = min(losses) > 0 and max(losses) / min(losses) > 8
    x = Axis(0, max(max(run.curve.steps[-1] for run in runs), 1), LEFT, WIDTH - RIGHT)
    y = spanning(losses, HEIGHT - BOTTOM, TOP, log=log)
    for tick in y.ticks(4):
        drawing.line((LEFT, y(tick)), (WIDTH - RIGHT, y(tick)), style="grid")
        drawing.text(LEFT - 7, y(tick) + 4, f"{tick:g}", style="tick", anchor="end")
    for tick in x.ticks(5):
        drawing.text(x(tick), HEIGHT - BOTTOM + 16, f"{tick:g}", style="tick", anchor="middle")
    drawing.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "optimiser step", style="tick", anchor="middle")
    drawing.upright(11, (TOP + HEIGHT - BOTTOM) / 2, "loss, log scale" if log else "loss", style="tick")
    # Grey first, so that the coloured lines lie on top; the best design last of all.
    for run in sorted(runs, key=lambda r: (_style(r, designs, style_of) != "other", -r.owners[0], r.seed)):
        names = ", ".join(designs[i].name for i in run.owners[:4]) + (", ..." if len(run.owners) > 4 else "")
        points = [(x(s), y(v)) for s, v in zip(run.curve.steps, run.curve.losses)]
        title = f"{names}, seed {run.seed}: last {run.curve.losses[-1]:.3f}"
        drawing.path(points, style=f"curve {_style(run, designs, style_of)}", title=title)
        if len(points) == 1:
            drawing.dot(*points[0], radius=3, style="mark hollow", title=title)
    return drawing.markup()


def _style(run: _Run, designs: Sequence[DesignRow], style_of: dict[str, str]) -> str:
    """A run that several designs share belongs to none of them alone."""
    if len(run.owners) > 1:
        return "shared"
    return style_of.get(designs[run.owners[0]].key, "other")
