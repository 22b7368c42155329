"""Ratio: categories in given shares (Cambrian-1's data ratio)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ommatidia.core.errors import ConfigError, DataError, unknown
from ommatidia.data.curation.operation import Lot, Operation, Place, Step, Verdict, check_known
from ommatidia.data.curation.record import Record


class Ratio(Operation):
    """Categories in given shares, records of each drawn at random by the seed."""

    kind: Literal["ratio"] = "ratio"
    shares: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]
    """Relative shares; a share of 0 drops the category."""
    total: Annotated[int, Field(ge=1)] | None = None
    """Records that are kept; None: as many as the scarcest category allows."""

    surveys: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(self.shares.values()):
            raise ConfigError(f"shares: {', '.join(self.shares)} sum to 0; expected one above 0")
        return self

    def quotas(self, counts: dict[str, int]) -> dict[str, int]:
        """Records to keep of each category. Raises ConfigError when a category has fewer."""
        exact = {name: Fraction(str(share)) for name, share in self.shares.items()}
        whole = sum(exact.values())
        possible = min(math.floor(counts.get(name, 0) * whole / share) for name, share in exact.items() if share)
        total = possible if self.total is None else self.total
        ideal = {name: share / whole * total for name, share in exact.items()}
        quotas = {name: math.floor(share) for name, share in ideal.items()}
        spare = total - sum(quotas.values())
        for name in sorted(ideal, key=lambda name: quotas[name] - ideal[name])[:spare]:
            quotas[name] += 1
        for name, quota in quotas.items():
            if quota > counts.get(name, 0):
                raise ConfigError(
                    f"ratio: {quota:,} records of category {name!r} are wanted and {counts.get(name, 0):,} are there; "
                    f"the largest total in these shares is about {possible:,}"
                )
        return quotas

    def check_names(self, sources: Collection[str], categories: Collection[str]) -> None:
        check_known("ratio.shares", "category", (name for name, share in self.shares.items() if share), categories)

    def start(self, place: Place) -> Step:
        return _Balancing(self, place)


class _Balancing(Step):
    def __init__(self, operation: Ratio, place: Place) -> None:
        self._operation, self._seed = operation, place.seed
        self._counts: Counter[str] = Counter()
        self._lots: dict[str, Lot] = {}

    def survey(self, record: Record) -> None:
        if record.category not in self._operation.shares:
            raise DataError(unknown("category", record.category, self._operation.shares), sample=record.id)
        self._counts[record.category] += 1

    def settle(self) -> None:
        for name, quota in self._operation.quotas(dict(self._counts)).items():
            self._lots[name] = Lot(self._counts[name], quota, f"ratio/{self._seed}/{name}")

    def decide(self, record: Record) -> Verdict:
        kept = self._lots[record.category].keeps()
        return Verdict(record) if kept else Verdict(None, f"more of category {record.category} than its share")
