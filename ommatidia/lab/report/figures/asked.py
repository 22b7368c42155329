"""Trained models asked otherwise, as bars: with other images or none, and with experts taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ommatidia.lab.report.figures.bars import Bar, bars
from ommatidia.lab.report.model import Ablation, AuditRow, Interval

CONDITIONS: Mapping[str, str] = {
    "full": "pictures",
    "shuffled": "wrong images",
    "blank": "gray images",
    "blind": "no images",
}
"""Modes of asking, from all to nothing, in words."""
GUESS = "random guess"
_INKS: Mapping[str, int | None] = {"full": 0, "shuffled": 1, "blank": 4, "blind": None}
_WHOLE = "all experts"


def audit_bars(rows: Sequence[AuditRow]) -> str:
    """The SVG file: a panel a benchmark, a bar a condition, guessing as a line."""
    panels = {}
    for row in rows:
        drawn = {CONDITIONS[mode]: _bar(row.scores[mode]) for mode in CONDITIONS}
        panels[row.benchmark] = drawn | ({} if row.guess is None else {GUESS: Bar(row.guess)})
    inks: dict[str, int | None] = {CONDITIONS[mode]: ink for mode, ink in _INKS.items()}
    title = "Is the image needed? Score in %, 95 % intervals"
    return bars(title, inks | {GUESS: None}, panels, reference=GUESS)


def ablation_bars(ablation: Ablation) -> str:
    """The SVG file: a panel a benchmark, a bar a set of experts that is taken away, the whole as a line."""
    rows: dict[str, int | None] = {_WHOLE: None}
    panels = {}
    for suite in ablation.suites:
        panel = {_WHOLE: _bar(suite.whole)}
        for row in suite.rows:
            label = f"without {row.taken}"
            rows[label] = ablation.experts.index(row.experts[0]) if len(row.experts) == 1 else None
            panel[label] = _bar(row.left)
        panels[suite.name] = panel
    title = f"Score in % with experts taken away ({ablation.treatment}), 95 % intervals"
    return bars(title, rows, panels, reference=_WHOLE)


def _bar(interval: Interval) -> Bar:
    return Bar(interval.mean, interval.low, interval.high)
