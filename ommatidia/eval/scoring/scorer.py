"""ScorerConfig: the contract of a scorer, a value from 0 to 1 for one answer. Each kind stands beside its function."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from ommatidia.core.config import Config
from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample


class ScorerConfig(Config, family=True):
    """Turns one answer into a value from 0 to 1. Pure: no files, no chance, no model."""

    version: ClassVar[int] = 1
    """Raised by hand when the same answers would score otherwise; it is part of every result and of the digest."""

    @abstractmethod
    def score(self, sample: Sample, answer: str) -> float:
        """The value of ``answer``, already stripped, to ``sample``, which still holds its reference.

        Raises DataError when the sample lacks what this scorer reads (reference, options).
        """

    def parsed(self, sample: Sample, answer: str) -> str | None:
        """What the scorer reads out of the answer; None when it cannot be read at all (counted, and scored 0)."""
        return answer

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
