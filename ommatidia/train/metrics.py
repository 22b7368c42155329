"""Metrics: one JSON line a step, written while training and read back for reports. Needs no torch."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Self

import numpy as np

from ommatidia.core.errors import DiskError

FILE = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one optimiser step did. ``step`` counts finished steps: the first one is 1."""

    step: int
    loss: float
    """Nats per supervised token, over the whole optimiser batch."""
    rates: dict[str, float]
    """Learning rate of this step by train pattern."""
    norm: float
    """Global gradient norm before clipping."""
    tokens: int
    """Real positions, visual tokens included, padding not."""
    supervised: int
    seconds: float
    """Of the whole step, waiting for data included."""
    wait: float
    """Seconds spent waiting for data."""
    validation: float | None = None
    """Held-out loss of the weights after this step, in nats per supervised token, where it was measured."""
    norms: dict[str, float] = field(default_factory=dict)
    """Gradient norm before clipping of each part of which something trains."""
    mfu: float | None = None
    """Model FLOPs utilisation: operations of the model, recomputation not counted, over what all devices could have
    done in the step's seconds; None where either is not known."""
    memory: int = 0
    """Most bytes in use so far on rank 0: allocated on a GPU, resident on the CPU."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def waiting(self) -> float:
        """Share of the step spent waiting for data."""
        return self.wait / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class LossCurve:
    """Arrays of equal length."""

    step: np.ndarray
    loss: np.ndarray


class MetricsLog:
    """Appends step reports to a file, so that a resumed run leaves the same lines as an undisturbed one."""

    def __init__(self, path: Path, *, after: int) -> None:
        """Keep the lines of steps up to ``after``, drop the rest. Raises DiskError when the file cannot be written."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = [report for report in read_metrics(path) if report.step <= after]
            rewritten = path.with_suffix(".tmp")
            rewritten.write_text("".join(map(_line, kept)), encoding="utf-8")
            rewritten.replace(path)
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise DiskError(f"{path}: cannot write metrics: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, report: StepReport) -> None:
        """Append one line; a killed process loses none, a killed machine may lose the last ones."""
        try:
            self._file.write(_line(report))
            self._file.flush()
        except OSError as error:
            raise DiskError(f"{self._path}: cannot write metrics: {error.strerror or error}") from None

    def sync(self) -> None:
        """Put everything on the disk: called before a checkpoint that stands for these steps."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DiskError(f"{self._path}: cannot write metrics: {error.strerror or error}") from None


def read_metrics(path: str | Path) -> list[StepReport]:
    """The step reports of a run in order; none when there is no file. A line torn by a crash ends the list."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    reports = []
    for line in lines:
        try:
            reports.append(StepReport(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return reports


def recent_loss(path: str | Path, steps: int | None) -> float:
    """The mean training loss of the last ``steps`` steps (None: of all); infinite where there are none."""
    last = [report.loss for report in read_metrics(path)[-(steps or 0) :]]
    return sum(last) / len(last) if last else float("inf")


def loss_curve(path: str | Path) -> LossCurve:
    """Steps and losses of a run, for drawing."""
    reports = read_metrics(path)
    return LossCurve(
        np.array([r.step for r in reports], dtype=np.int64), np.array([r.loss for r in reports], dtype=np.float64)
    )


def _line(report: StepReport) -> str:
    return json.dumps(asdict(report)) + "\n"
