"""Tracking: sends step reports to TensorBoard or Weights & Biases where asked; ``metrics.jsonl`` is written always."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError
from ommatidia.train.metrics import StepReport

Destination = Literal["tensorboard", "wandb"]


class Tracker(Protocol):
    def write(self, report: StepReport) -> None: ...

    def close(self) -> None: ...


def trackers(names: Sequence[Destination], folder: Path, *, run: str, after: int) -> list[Tracker]:
    """Open the named trackers for a run that goes on after step ``after``.

    Raises ConfigError when a library is not installed.
    """
    kinds: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
        "tensorboard": TensorBoard,
        "wandb": WeightsAndBiases,
    }
    return [kinds[name](folder, run=run, after=after) for name in names]


def check_trackers(names: Sequence[Destination]) -> None:
    """Raises ConfigError when the library of a tracker is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"logging to {name} needs the package {name!r}: pip install {name}")


def scalars(report: StepReport) -> dict[str, float]:
    """The numbers of a step under the names shown in the trackers."""
    return {
        "loss": report.loss,
        "gradient norm": report.norm,
        "supervised tokens": report.supervised,
        "tokens per second": report.tokens_per_second,
        "data wait": report.waiting,
        "memory GiB": report.memory / 2**30,
        **({} if report.mfu is None else {"mfu": report.mfu}),
        **{f"gradient norm/{part}": norm for part, norm in report.norms.items()},
        **{f"learning rate/{pattern}": rate for pattern, rate in report.rates.items()},
    }


class TensorBoard:
    def __init__(self, folder: Path, *, run: str, after: int) -> None:
        library = _library("torch.utils.tensorboard", "tensorboard")
        self._writer: Any = library.SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)

    def write(self, report: StepReport) -> None:
        for name, value in scalars(report).items():
            self._writer.add_scalar(name.replace(" ", "_"), value, report.step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    def __init__(self, folder: Path, *, run: str, after: int) -> None:
        library = _library("wandb", "wandb")
        self._run: Any = library.init(
            project="ommatidia", name=run, dir=str(folder), id=digest(str(folder.resolve()))[:16], resume="allow"
        )

    def write(self, report: StepReport) -> None:
        self._run.log(scalars(report), step=report.step)

    def close(self) -> None:
        self._run.finish()


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"logging to {package} needs the package {package!r}: pip install {package}") from None
