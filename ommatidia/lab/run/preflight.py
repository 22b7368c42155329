"""Preflight: everything that the inputs alone tell of a plan, before its first node: all problems at once, a line each.

Looked at: data, questions, references and ids, packages, weights (their headers), devices, patterns, lengths, disks.
Not known here: what only decoding a training image, a download or the arithmetic itself shows.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DataError, OmmatidiaError, RunError
from ommatidia.lab.nodes.job import Finding, Job
from ommatidia.lab.nodes.requirements import device_faults, encoder_faults, language_faults, stage_faults
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe
from ommatidia.train.ranks import raise_on_all, ranks

_SPARE = 1.1
"""Room that should be left: a tenth more than is planned."""


_KINDS: dict[str, type[OmmatidiaError]] = {"ConfigError": ConfigError, "DataError": DataError}


@dataclass
class Preflight:
    """What was found: errors that would come, and notes, each once and in the order found."""

    problems: dict[str, OmmatidiaError] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.error is None:
                self.notes[finding.text] = None
            else:
                self.problems[finding.text] = finding.error

    def finish(self) -> None:
        """Tell the notes; raise what was found: one error itself, of several a list. All ranks call it alike."""
        # What another problem says as well, with its place, is said once.
        texts = [one for one in self.problems if not any(one in other for other in self.problems if other != one)]
        told = ranks().broadcast([[type(self.problems[text]).__name__, text] for text in texts])
        if ranks().leads:
            for note in self.notes:
                console().log(note)
        if not told:
            return
        kinds = {_KINDS.get(name, RunError) for name, _ in told}
        kind = kinds.pop() if len(kinds) == 1 else ConfigError
        if len(told) == 1:
            raise raise_on_all(kind(told[0][1]))
        listed = "\n".join(f"  {text}" for _, text in told)
        raise raise_on_all(kind(f"{len(told)} problems, found before anything was done:\n{listed}"))


def check_inputs(recipes: Sequence[Recipe], *first: Callable[[], object]) -> Preflight:
    """What a plan cannot be made without: data that opens, benchmarks that have questions, devices.

    ``first`` are further calls that may refuse. Where anything is refused no plan will be made, so what the designs
    need of the machine (packages, weights, patterns) is looked at here too: all problems are told at once.
    """
    found = Preflight()
    for call in first:
        found.add(_refused(call))
    for recipe in recipes:
        found.add(map(Finding.of, device_faults(recipe.device)))
        for stage in recipe.stages:
            found.add(_refused(stage.data.open))
            if stage.validation is not None:
                found.add(_refused(stage.validation.data.open))
        for benchmark in recipe.benchmarks:
            found.add(_refused(benchmark.open))
    if found.problems:
        for recipe in recipes:
            found.add(map(Finding.of, _design_faults(recipe)))
    return found


def _refused(call: Callable[[], object]) -> Iterator[Finding]:
    try:
        call()
    except OmmatidiaError as error:
        yield Finding.of(error)


def _design_faults(recipe: Recipe) -> Iterator[OmmatidiaError]:
    """What building and training the design needs and this machine lacks."""
    yield from language_faults(recipe.model.language)
    for name, encoder in recipe.model.encoders.items():
        yield from encoder_faults(name, encoder)
    if not any(True for _ in device_faults(recipe.device)):
        for stage in recipe.stages:
            yield from stage_faults(stage, recipe.model, recipe.device, ())


def check_jobs(jobs: Sequence[Job], store: Store, out: Path | None = None, *, pixels: bool = True) -> Preflight:
    """What these jobs, which are still to be done, will meet. ``pixels``: see ``Job.findings``."""
    found = Preflight()
    for job in jobs:
        found.add(job.findings(pixels=pixels))
    found.add(_room(jobs, store, out))
    return found


def _room(jobs: Sequence[Job], store: Store, out: Path | None) -> Iterator[Finding]:
    """Whether the disks have room for what will be kept, and for the largest node at work."""
    kept = sum(job.kept_bytes() for job in jobs) + max((job.scratch_bytes() for job in jobs), default=0)
    model = max((job.kept_bytes() for job in jobs if job.kind == "checkpoint"), default=0)
    wanted = {_disk(store.root): kept}
    if out is not None:
        wanted[_disk(out)] = wanted.get(_disk(out), 0) + model
    for folder, size in wanted.items():
        free = shutil.disk_usage(folder).free
        told = f"{folder}: the plan keeps {_mebibytes(size)} on this disk, which has {_mebibytes(free)} free"
        if size > free:
            yield Finding.of(RunError(f"{told}; make room, or use another --store or --out"))
        elif size * _SPARE > free:
            yield Finding(f"{told}: little is left")


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _disk(path: Path) -> Path:
    """The nearest folder above that is there: of one disk, one folder."""
    folder = next(one for one in (path.absolute(), *path.absolute().parents) if one.is_dir())
    device = folder.stat().st_dev
    while folder.parent != folder and folder.parent.stat().st_dev == device:
        folder = folder.parent
    return folder


def check_writable(folder: Path) -> None:
    """Raises RunError where no file can be made in the folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".omma-"):
            pass
    except OSError as error:
        raise RunError(f"{error.filename or folder}: cannot write here: {error.strerror or error}") from None
