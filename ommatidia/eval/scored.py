"""Scored: one benchmark of one model, scored. Plain data that goes into a store and comes back equal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ommatidia.eval.scoring.score import Score
from ommatidia.eval.statistics import Interval


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores with their interval, and what produced them."""

    benchmark: str
    group: str
    mode: str
    model: str
    scorer: str
    scorer_version: int
    scores: tuple[Score, ...]
    """One a sample, in the benchmark's order."""
    units: tuple[Score, ...]
    """What the headline number is the mean of; the same as ``scores`` unless the metric joins samples."""
    interval: Interval
    summary: dict[str, float] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Cause by sample id; these are in no score."""
    seconds: float = 0.0
    prompt: str = ""
    """Version of the prompt, few-shot examples included; empty where a benchmark has only one."""
    judge: str = ""
    """Who read the answers that rules cannot read: "rules" alone, or a judge's name; empty where rules suffice."""
    judged: dict[str, int] = field(default_factory=dict)
    """Questions to a judge (asked), and those without a verdict (failed, nonsense). An answer that none of the judge's
    runs has a verdict on is in no score."""

    @property
    def mean(self) -> float:
        return self.interval.mean

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(unit.id for unit in self.units)

    @property
    def values(self) -> NDArray[np.float64]:
        return np.array([unit.value for unit in self.units], dtype=np.float64)

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(unit.cluster for unit in self.units)

    @property
    def weights(self) -> tuple[float, ...]:
        """How much each unit counts in the mean, against the others."""
        return tuple(unit.weight for unit in self.units)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data. ``units`` is None where it equals ``scores``."""
        data = asdict(self)
        data["units"] = None if self.units == self.scores else data["units"]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        scores = tuple(Score(**score) for score in data["scores"])
        units = scores if data["units"] is None else tuple(Score(**unit) for unit in data["units"])
        return cls(**{**data, "scores": scores, "units": units, "interval": Interval(**data["interval"])})
