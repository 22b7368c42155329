"""TrainReport: what a finished stage took and came to, read back from its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ommatidia.train.metrics import read_metrics


@dataclass(frozen=True, slots=True)
class TrainReport:
    """A finished stage, resumed runs counted as one."""

    steps: int
    resumed: int
    """Step after which this process took over; 0 when it did everything."""
    loss: float | None
    """Mean over the last tenth of the steps, in nats per supervised token; None when the metrics file was lost."""
    tokens: int
    supervised: int
    seconds: float
    wait: float
    """Seconds of those spent waiting for data."""
    metrics: Path

    @classmethod
    def read(cls, path: Path, *, steps: int, resumed: int) -> Self:
        """From the metrics file of the stage."""
        reports = read_metrics(path)
        last = [report.loss for report in reports[-max(1, len(reports) // 10) :]]
        return cls(
            steps=steps,
            resumed=resumed,
            loss=sum(last) / len(last) if last else None,
            tokens=sum(report.tokens for report in reports),
            supervised=sum(report.supervised for report in reports),
            seconds=sum(report.seconds for report in reports),
            wait=sum(report.wait for report in reports),
            metrics=path,
        )
