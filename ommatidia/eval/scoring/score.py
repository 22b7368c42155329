"""Score: what one answer is worth, and the units that a headline number is the mean of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Status = Literal["parsed", "unparsed", "empty"]


@dataclass(frozen=True, slots=True)
class Score:
    """What one answer is worth."""

    id: str
    value: float
    """From 0 to 1."""
    cluster: str
    """Samples of one cluster share an image; they are resampled together."""
    status: Status = "parsed"
    tags: Mapping[str, str] = field(default_factory=dict)
    """What ``summary`` breaks scores down by, such as the task, and what a set metric joins samples by."""
    weight: float = 1.0
    """In the headline mean, against the other units: a metric that averages over categories weighs by their sizes."""


def mean(scores: Iterable[Score]) -> float:
    """The weighted mean; 0 of nothing."""
    listed = list(scores)
    total = sum(score.weight for score in listed)
    return sum(score.weight * score.value for score in listed) / total if total else 0.0


def grouped(scores: Iterable[Score], *tags: str) -> dict[str, list[Score]]:
    """Scores by the values of ``tags`` joined with a slash, in order of appearance; those without are left out."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        if all(tag in score.tags for tag in tags):
            found.setdefault("/".join(score.tags[tag] for tag in tags), []).append(score)
    return found


def balanced(scores: Sequence[Score], tag: str) -> list[Score]:
    """The same scores, weighted so that every value of ``tag`` counts alike; without the tag a value of its own."""
    sizes: dict[str, int] = {}
    for score in scores:
        sizes[score.tags.get(tag, "")] = sizes.get(score.tags.get(tag, ""), 0) + 1
    share = len(scores) / len(sizes) if sizes else 0.0
    return [replace(score, weight=share / sizes[score.tags.get(tag, "")]) for score in scores]
