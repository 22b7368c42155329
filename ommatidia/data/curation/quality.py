"""Quality: the best part of each source by a score that its records carry (NVLM: quality over quantity)."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict, check_known
from ommatidia.data.curation.record import Record


class Quality(Operation):
    """The records of a source with the highest scores, a share of them or all above a least score."""

    kind: Literal["quality"] = "quality"
    field: str
    """Field of the record that holds the score, such as COYO's ``clip_similarity_vitl14``; dots lead inside."""
    least: float | None = None
    keep: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None
    """By source: the share that stays, best first; a source that is not named stays whole and needs no score."""

    surveys: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.least is None) == (self.keep is None):
            raise ConfigError("give one of least and keep")
        return self

    def check_names(self, sources: Collection[str], categories: Collection[str]) -> None:
        check_known("quality.keep", "source", self.keep or {}, sources)

    def start(self, place: Place) -> Step:
        return _Ranking(self)

    def score(self, record: Record) -> float:
        """Raises DataError when the record carries none."""
        value: object = record.data
        for name in self.field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise DataError(f"{self.field} is {value!r}; expected a number", source=record.file, sample=record.id)
        return float(value)


class _Ranking(Step):
    """Holds eight bytes a record."""

    def __init__(self, operation: Quality) -> None:
        self._operation = operation
        self._scores: dict[str, array[float]] = {}
        self._least: dict[str, float] = {}
        self._ties: dict[str, int] = {}

    def survey(self, record: Record) -> None:
        if self._operation.keep is not None and record.source in self._operation.keep:
            self._scores.setdefault(record.source, array("d")).append(self._operation.score(record))

    def settle(self) -> None:
        for source, scores in self._scores.items():
            wanted = round((self._operation.keep or {})[source] * len(scores))
            ranked = sorted(scores, reverse=True)
            self._least[source] = ranked[wanted - 1] if wanted else float("inf")
            # Of equal scores at the threshold the first ones stay.
            self._ties[source] = wanted - sum(score > self._least[source] for score in ranked)
        self._scores.clear()

    def decide(self, record: Record) -> Verdict:
        if self._operation.least is not None:
            enough = self._operation.score(record) >= self._operation.least
            return (
                Verdict(record) if enough else Verdict(None, f"{self._operation.field} below {self._operation.least:g}")
            )
        if record.source not in self._least:
            return Verdict(record)
        score, least = self._operation.score(record), self._least[record.source]
        if score == least and self._ties[record.source] > 0:
            self._ties[record.source] -= 1
            return Verdict(record)
        return (
            Verdict(record)
            if score > least
            else Verdict(None, f"not among the best of its source by {self._operation.field}")
        )
