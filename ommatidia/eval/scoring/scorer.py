"""ScorerConfig: the contract of a scorer, a value from 0 to 1 for one answer. Each kind stands beside its function."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from ommatidia.core.config import Config
from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score


class ScorerConfig(Config, family=True):
    """Turns one answer into a value from 0 to 1, and values into what is reported. Pure: no files, no chance, no model.

    A kind whose metric is no plain mean of samples overrides ``units``, which stay resampled by image. A unit is
    linear in the value of each of its samples, so that expected values go in and an expected value comes out.
    """

    version: ClassVar[int] = 1
    """Raised by hand when the same answers would score otherwise; it is part of every result and of the digest."""

    most: ClassVar[float] = 1.0
    """What a value can be at most."""

    @abstractmethod
    def score(self, sample: Sample, answer: str) -> float:
        """The value of ``answer``, already stripped, to ``sample``, which still holds its reference.

        Raises DataError when the sample lacks what this scorer reads (reference, options).
        """

    def parsed(self, sample: Sample, answer: str) -> str | None:
        """What the scorer reads out of the answer; None when it cannot be read at all (counted, and scored 0)."""
        return answer

    def guess(self, sample: Sample) -> float:
        """The value that a uniform random guess is worth on average: one of the options where there are options, and
        nothing where the answer is open."""
        options = sample.meta.get("options")
        return 1.0 / len(options) if options else 0.0

    def over(self, samples: Iterable[Sample]) -> Self:
        """The scorer for a benchmark of these samples; itself, unless a value depends on the references of others."""
        return self

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        """What ``units`` and ``figures`` need to know of a score beside its value."""
        return {}

    def units(self, scores: Sequence[Score]) -> Sequence[Score]:
        """What the headline number is the mean of: the samples, or what the metric joins them to (pairs, rotations).

        Raises DataError when samples cannot be joined.
        """
        return scores

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        """Further figures that are reported beside the headline number, by name."""
        return {}

    def hashed(self) -> Any:
        return {**super().hashed(), "version": self.version}


def references_of(sample: Sample) -> tuple[str, ...]:
    """The accepted answers: ``meta["references"]`` where given, otherwise the closing assistant turn.

    Raises DataError when there is none: a sample without reference cannot be scored, and is never a silent zero.
    """
    if "references" in sample.meta:
        given = sample.meta["references"]
        references = (given,) if isinstance(given, str) else tuple(str(reference) for reference in given)
    else:
        closes = bool(sample.messages) and sample.messages[-1].role == "assistant"
        references = (sample.answer,) if closes else ()
    references = tuple(reference for reference in references if reference.strip())
    if not references:
        raise DataError(
            'no reference answer: expected a closing assistant turn or meta["references"]', sample=sample.id
        )
    return references


def need(record: Mapping[str, Any], *names: str) -> None:
    """Raises DataError when a plain record lacks a field that a set metric reads."""
    if missing := [name for name in names if name not in record]:
        raise DataError(f"a record lacks {missing[0]!r}; expected {', '.join(names)}")


def meta_of(sample: Sample, name: str) -> Any:
    """``sample.meta[name]``. Raises DataError when the sample lacks it."""
    if sample.meta.get(name) is None:
        raise DataError(f'meta["{name}"] is missing', sample=sample.id)
    return sample.meta[name]
