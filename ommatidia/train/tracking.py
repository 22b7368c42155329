"""Tracking: step reports as curves in TensorBoard or Weights & Biases, beside a result and not in its working folder.

``metrics.jsonl`` is written always and is what counts. A training is a function of its seed and step, so a tracker that
is told a step again is told the same: steps that it holds are left out, wherever a run goes on.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError, DiskError, unknown
from ommatidia.train.engine import Destination
from ommatidia.train.metrics import StepReport

_PACKAGES: dict[Destination, str] = {"tensorboard": "tensorboard", "wandb": "wandb"}
_LAST = "last_step"


@dataclass(frozen=True, slots=True)
class Tracking:
    """Where the curves of a training go: a folder for each destination, in it one for each training."""

    folder: Path
    destinations: tuple[Destination, ...] = ()
    run: str = ""
    """What this training is called there."""

    def place(self, destination: Destination) -> Path:
        """The folder of this training's curves."""
        return self.folder / destination / re.sub(r"[^A-Za-z0-9._+=-]+", "-", self.run)

    def of_run(self, run: str, more: Iterable[Destination] = ()) -> Tracking:
        """The same for a training of this name, with further destinations."""
        return Tracking(self.folder, tuple(dict.fromkeys((*self.destinations, *more))), run)


def read_destinations(text: str) -> tuple[Destination, ...]:
    """Names with commas between them. Raises ConfigError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _PACKAGES:
            raise ConfigError(f"--track: {unknown('tracker', name, _PACKAGES)}")
    return tuple(known for known in _PACKAGES if known in names)


def check_trackers(names: Iterable[Destination]) -> None:
    """Raises ConfigError, with the command that installs it, for a tracker whose package is not there."""
    for name in names:
        try:
            missing = importlib.util.find_spec(_PACKAGES[name]) is None
        except ValueError:  # in sys.modules without a spec: somebody put it there
            missing = False
        if missing:
            raise ConfigError(
                f"tracking with {name} needs the package {_PACKAGES[name]!r}: pip install 'ommatidia[{name}]'"
            )


class Tracker(Protocol):
    def write(self, report: StepReport) -> None: ...

    def close(self) -> None: ...


class Curves:
    """One training's curves in one destination, from its first step on; a context that closes them.

    Every ``every``-th step is shown, the ``last`` one and those with a held-out loss. ``kept``: reports of steps done
    before. Those that the destination does not hold yet are written first.
    """

    def __init__(
        self, tracking: Tracking, destination: Destination, *, kept: Sequence[StepReport], every: int, last: int
    ) -> None:
        """Raises ConfigError when a package is missing, DiskError when the folder cannot be written."""
        check_trackers([destination])
        self._folder, self._every, self._end = tracking.place(destination), every, last
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"{self._folder}: cannot write curves: {error.strerror or error}") from None
        self._last = 0 if destination == "tensorboard" else held(self._folder)
        kinds: dict[Destination, type[TensorBoard] | type[WeightsAndBiases]] = {
            "tensorboard": TensorBoard,
            "wandb": WeightsAndBiases,
        }
        self._tracker: Tracker = kinds[destination](self._folder, run=tracking.run)
        for report in kept:
            self.write(report)

    def write(self, report: StepReport) -> None:
        """Take in a step that is due, unless it is there."""
        due = report.step in (self._end, report.step // self._every * self._every) or report.validation is not None
        if due and report.step > self._last:
            self._tracker.write(report)
            self._last = report.step
            (self._folder / _LAST).write_text(str(self._last), encoding="utf-8")

    def close(self) -> None:
        self._tracker.close()


def held(folder: Path) -> int:
    """The last step whose numbers a folder of curves holds; 0 where there are none."""
    try:
        return int((folder / _LAST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def write_curves(tracking: Tracking, *, reports: Sequence[StepReport], every: int) -> None:
    """The curves of a finished training, from its kept metrics; nothing where they are there already."""
    for destination in tracking.destinations:
        if reports and held(tracking.place(destination)) < reports[-1].step:
            Curves(tracking, destination, kept=reports, every=every, last=reports[-1].step).close()


def scalars(report: StepReport) -> dict[str, float]:
    """The numbers of a step under the names shown in the trackers."""
    return {
        "loss": report.loss,
        **({} if report.validation is None else {"validation loss": report.validation}),
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
    """Event files, written anew where a run goes on, so that no step stands there twice."""

    def __init__(self, folder: Path, *, run: str) -> None:
        library: Any = importlib.import_module("torch.utils.tensorboard")
        for before in folder.glob("events.out.tfevents.*"):
            before.unlink()
        self._writer: Any = library.SummaryWriter(str(folder))

    def write(self, report: StepReport) -> None:
        for name, value in scalars(report).items():
            self._writer.add_scalar(name.replace(" ", "_"), value, report.step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of the project ``ommatidia``, on this machine alone unless its user is logged in or sets WANDB_MODE."""

    def __init__(self, folder: Path, *, run: str) -> None:
        library: Any = importlib.import_module("wandb")
        known = "WANDB_MODE" in os.environ or getattr(getattr(library, "api", None), "api_key", None)
        self._run: Any = library.init(
            project="ommatidia", name=run, dir=str(folder), id=digest([str(folder.resolve()), run])[:16],
            resume="allow", mode=None if known else "offline", settings={"silent": True, "console": "off"},
        )  # fmt: skip

    def write(self, report: StepReport) -> None:
        self._run.log(scalars(report), step=report.step)

    def close(self) -> None:
        self._run.finish()
