"""What a file of answers must be before it is gone on with or scored."""

from __future__ import annotations

from pathlib import Path

from ommatidia.core.errors import DataError, RunError
from ommatidia.eval.answers import Answered
from ommatidia.eval.benchmark import Benchmark


def same(path: Path, held: dict[str, Answered], *, benchmark: str, mode: str, model: str) -> None:
    for record in held.values():
        for what, found, wanted in (
            ("benchmark", record.benchmark, benchmark),
            ("mode", record.mode, mode),
            ("model", record.model, model),
        ):
            if found != wanted:
                raise RunError(f"{path}: holds answers of {what} {found!r}, expected {wanted!r}")


def no_strangers(path: Path, held: dict[str, Answered], known: set[str]) -> None:
    strangers = [record.id for record in held.values() if record.answer is not None and record.id not in known]
    if strangers:
        raise RunError(f"{path}: holds an answer to {strangers[0]!r}, which this benchmark does not ask")


def tolerate(benchmark: Benchmark, unreadable: dict[str, str]) -> None:
    total, tolerance = len(benchmark.samples()), benchmark.config.tolerance
    if len(unreadable) > tolerance * total:
        sample, cause = next(reversed(unreadable.items()))
        count = f"{len(unreadable)} of {total} samples unreadable, tolerated {tolerance:.1%}; the last: {cause}"
        raise DataError(count, source=benchmark.name, sample=sample)
