"""Records: where step reports go: ``metrics.jsonl`` always, trackers where asked. Rank 0 alone keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from ommatidia.core.console import console
from ommatidia.train.metrics import FILE, MetricsLog, StepReport, read_metrics
from ommatidia.train.tracking import Curves, Tracking

_ENOUGH = 20
"""Steps before the share of time spent waiting for data is judged."""
_LARGE = 0.25
"""Share of the time above which waiting for data is worth a warning."""


class Records:
    """The records of one run that goes on after step ``after``; a context that closes them.

    Raises DiskError when the file cannot be written, ConfigError when a tracker's library is not installed.
    """

    def __init__(self, folder: Path, *, after: int, every: int, last: int, tracking: Tracking) -> None:
        self._metrics = MetricsLog(folder / FILE, after=after)
        kept = read_metrics(folder / FILE)
        shown = tracking.destinations
        self._curves = [Curves(tracking, one, kept=kept, every=every, last=last) for one in shown]
        self._seconds, self._wait, self._seen = 0.0, 0.0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.__exit__()
        for curves in self._curves:
            curves.close()

    def write(self, report: StepReport) -> None:
        """Take in one step."""
        self._metrics.write(report)
        for curves in self._curves:
            curves.write(report)
        self._judge(report)

    def sync(self) -> None:
        """Put everything on the disk."""
        self._metrics.sync()

    def _judge(self, report: StepReport) -> None:
        """Warn once when the data keeps the model waiting."""
        self._seconds, self._wait, self._seen = self._seconds + report.seconds, self._wait + report.wait, self._seen + 1
        if self._seen == _ENOUGH and self._wait > _LARGE * self._seconds:
            share = self._wait / self._seconds
            console().warn(
                f"{share:.0%} of the time so far was spent waiting for data; more engine.workers, smaller images or "
                "stored features would help"
            )


class NoRecords(Records):
    """What the other ranks have."""

    def __init__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return

    def write(self, report: StepReport) -> None:
        return

    def sync(self) -> None:
        return
