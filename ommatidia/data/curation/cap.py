"""Cap: no source gives more than a number of records (Cambrian-1's data balancing, threshold t)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ommatidia.data.curation.operation import Lot, Operation, Place, Step, Verdict, check_known
from ommatidia.data.curation.record import Record


class Cap(Operation):
    """At most ``most`` records of each source, drawn at random by the seed. Cambrian-1: between 250k and 350k."""

    kind: Literal["cap"] = "cap"
    most: Annotated[int, Field(ge=1)]
    sources: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Another limit for some of them."""

    surveys: ClassVar[bool] = True

    def check_names(self, sources: Collection[str], categories: Collection[str]) -> None:
        check_known("cap.sources", "source", self.sources, sources)

    def start(self, place: Place) -> Step:
        return _Capping(self, place)


class _Capping(Step):
    def __init__(self, operation: Cap, place: Place) -> None:
        self._operation, self._seed = operation, place.seed
        self._counts: Counter[str] = Counter()
        self._lots: dict[str, Lot] = {}

    def survey(self, record: Record) -> None:
        self._counts[record.source] += 1

    def settle(self) -> None:
        for source, count in self._counts.items():
            most = self._operation.sources.get(source, self._operation.most)
            self._lots[source] = Lot(count, min(count, most), f"cap/{self._seed}/{source}")

    def decide(self, record: Record) -> Verdict:
        most = self._operation.sources.get(record.source, self._operation.most)
        return (
            Verdict(record) if self._lots[record.source].keeps() else Verdict(None, f"more than {most:,} of its source")
        )
