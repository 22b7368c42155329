"""Examine a benchmark without a model: what of it cannot be asked or scored, before anybody has trained for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from ommatidia.core.errors import DataError
from ommatidia.core.picture import DrawnPicture
from ommatidia.core.types import ImagePart, Picture, Sample
from ommatidia.eval.benchmark import Benchmark, BenchmarkConfig
from ommatidia.eval.prompts import Mode
from ommatidia.eval.scoring.judged import JudgedScorer
from ommatidia.eval.scoring.score import Score

_AT_ONCE = 256
"""Samples whose images are looked at together."""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """What decides how many tokens a prompt can take."""

    position: int
    id: str
    bytes: int
    turns: int
    images: int


@dataclass(frozen=True, slots=True)
class Examination:
    """What evaluating a benchmark will meet, as far as its data tells."""

    total: int
    repeated: int
    """Samples whose id an earlier one has; they are told apart as ``ID#2``."""
    unusable: Mapping[str, str]
    """Cause by sample id: they can be neither asked nor scored, and count against the benchmark's tolerance."""
    prompts: tuple[PromptSize, ...]

    def without(self, causes: Mapping[str, str]) -> Examination:
        """The same with further unusable samples."""
        return replace(self, unusable={**causes, **self.unusable})

    def notes(self, config: BenchmarkConfig) -> Iterator[str]:
        """What to tell before the benchmark is asked. Raises DataError when more is unusable than it tolerates."""
        count, listed = len(self.unusable), _by_cause(self.unusable)
        share = f"tolerated {config.tolerance:.1%}"
        lost = f"{count} of {self.total} samples cannot be asked or scored"
        if count > config.tolerance * self.total:
            raise DataError(f"{lost}, {share}: {listed}", source=config.name)
        if count:
            yield f"{config.name}: {lost} ({share}) and are left out: {listed}"
        if self.repeated:
            yield (
                f"{config.name}: {self.repeated} of {self.total} samples have the id of an earlier one; they are told "
                "apart as ID#2, ID#3 ..."
            )


def _by_cause(unusable: Mapping[str, str], most: int = 4) -> str:
    """Causes, each with the samples that it concerns; a few of each."""
    groups: dict[str, list[str]] = {}
    for name, cause in unusable.items():
        groups.setdefault(cause, []).append(name)
    lines = []
    for cause, names in list(groups.items())[:most]:
        more = f" and {len(names) - most} more" if len(names) > most else ""
        lines.append(f"{cause} ({', '.join(names[:most])}{more})")
    return "; ".join(lines) + (f"; and {len(groups) - most} more causes" if len(groups) > most else "")


def examine(benchmark: Benchmark, *, mode: Mode = "full", decode: bool = False) -> Examination:
    """Read every sample, write its prompt, score an empty answer to it, and look at the headers of the prompt's images;
    with ``decode`` at their pixels too.

    Raises DataError where the benchmark as a whole cannot be evaluated: no image can change places with another, scores
    cannot be joined.
    """
    unusable: dict[str, str] = {}
    scores: list[Score] = []
    sizes: list[PromptSize] = []
    images = _Images(decode)
    if mode == "shuffled":
        benchmark.exchange_images()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="examine") as pool:
        readable = benchmark.readable()
        while group := list(islice(readable, _AT_ONCE)):
            prompts: list[tuple[int, Sample]] = []
            for position, sample in group:
                try:
                    if isinstance(sample, DataError):
                        raise sample
                    prompts.append((position, benchmark.prompt(sample, mode=mode)))
                    scores.append(_try_score(benchmark, sample))
                except DataError as error:
                    unusable[sample.id if isinstance(sample, Sample) else error.sample or f"#{position}"] = error.cause
            for (position, prompt), cause in zip(prompts, pool.map(images.fault, prompts), strict=True):
                sizes.append(_size(position, prompt))
                if cause is not None:
                    unusable.setdefault(prompt.id, cause)
    if scores:
        benchmark.units(scores)
    return Examination(len(benchmark.samples()), len(benchmark.repeats), unusable, tuple(sizes))


def _try_score(benchmark: Benchmark, sample: Sample) -> Score:
    """The score of an empty answer. Raises DataError where no answer to the sample could be scored."""
    if isinstance(benchmark.scorer, JudgedScorer):
        benchmark.scorer.question(sample, "an answer")
    return benchmark.score(sample, "")


def _size(position: int, prompt: Sample) -> PromptSize:
    parts = [part for message in prompt.messages for part in message.parts]
    images = sum(isinstance(part, ImagePart) for part in parts)
    text = sum(len(part.encode("utf-8", "replace")) for part in parts if isinstance(part, str))
    return PromptSize(position, prompt.id, text, len(prompt.messages) + images, images)


class _Images:
    """Looks at every image once, whatever questions show it. Safe to share between threads."""

    def __init__(self, decode: bool) -> None:
        self._look: Callable[[Picture], object] = (lambda one: one.open()) if decode else (lambda one: one.size())
        self._causes: dict[str, str | None] = {}

    def fault(self, prompt: tuple[int, Sample]) -> str | None:
        """Why an image of the prompt cannot be seen."""
        found = (self._fault(picture) for picture in prompt[1].images if not isinstance(picture, DrawnPicture))
        return next((cause for cause in found if cause is not None), None)

    def _fault(self, picture: Picture) -> str | None:
        try:
            key = picture.digest
        except DataError as error:
            return error.cause
        if key not in self._causes:  # two threads may look twice, and find the same
            try:
                self._look(picture)
                self._causes[key] = None
            except DataError as error:
                self._causes[key] = error.cause
        return self._causes[key]
