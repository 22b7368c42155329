"""CV-Bench: accuracy by source; 2D is the mean of ADE20K and COCO, 3D is Omni3D, overall the mean of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NotRequired, TypedDict

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.choice import Variant, choice_letter, options_of, target_letter
from ommatidia.eval.scoring.score import Score, grouped, mean
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, need

SHARES = {"ADE20K": 1.0, "COCO": 1.0, "Omni3D": 2.0}
"""How much the accuracy of each source counts in the overall number (Cambrian-1, section 3.2)."""


class CvBenchRecord(TypedDict):
    """One answered question of CV-Bench."""

    source: str
    answer: str
    target: str
    """The letter, with or without parentheses."""
    options: Sequence[str]
    task: NotRequired[str]


def cv_bench_scores(
    records: Iterable[CvBenchRecord | Mapping[str, Any]], *, variant: Variant = "careful"
) -> dict[str, Any]:
    """``2d``, ``3d`` and ``overall`` as Cambrian-1 joins them, as far as the sources are there; ``accuracy`` over all
    questions alike, which is what lmms-eval reports; ``sources`` and ``tasks`` by name.

    ``variant`` is the rule of ``choice_letter``; lmms-eval's, ``cv_bench``, reads any word by its first letter. Raises
    DataError for an unknown source or no record.
    """
    scores = []
    for number, record in enumerate(records):
        need(record, "source", "answer", "target", "options")
        letter = choice_letter(str(record["answer"]).strip(), record["options"], variant=variant)
        right = float(letter == str(record["target"]).strip("()").upper())
        tags = {"source": str(record["source"])} | ({"task": str(record["task"])} if "task" in record else {})
        scores.append(Score(str(number), right, str(number), tags=tags))
    tasks = {name: mean(inside) for name, inside in sorted(grouped(scores, "task").items())}
    return _scores(scores) | {"tasks": tasks}


def _scores(scores: Sequence[Score]) -> dict[str, Any]:
    if not scores:
        raise DataError("no answer to score")
    sources = {name: mean(inside) for name, inside in grouped(scores, "source").items()}
    if strange := sorted(set(sources) - set(SHARES)):
        raise DataError(f"no source of CV-Bench: {strange[0]!r}; there are {', '.join(SHARES)}")
    found: dict[str, Any] = {"accuracy": mean(scores), "sources": sources}
    if {"ADE20K", "COCO"} <= set(sources):
        found["2d"] = (sources["ADE20K"] + sources["COCO"]) / 2
    if "Omni3D" in sources:
        found["3d"] = sources["Omni3D"]
    if "2d" in found and "3d" in found:
        found["overall"] = (found["2d"] + found["3d"]) / 2
    return found


class CvBenchScorer(ScorerConfig):
    """The right letter, weighted so that sources count as in Cambrian-1: 2D, 3D or both, whatever is asked."""

    kind: Literal["cv_bench"] = "cv_bench"
    version = 2
    variant: Variant = "careful"

    def score(self, sample: Sample, answer: str) -> float:
        return float(choice_letter(answer, options_of(sample), variant=self.variant) == target_letter(sample))

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return choice_letter(answer, options_of(sample), variant=self.variant) or None

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        return {"source": str(meta_of(sample, "source"))}

    def units(self, scores: Sequence[Score]) -> Sequence[Score]:
        sizes = {name: len(inside) for name, inside in grouped(scores, "source").items()}
        if strange := sorted(set(sizes) - set(SHARES)):
            raise DataError(f"no source of CV-Bench: {strange[0]!r}; there are {', '.join(SHARES)}")
        total = sum(SHARES[name] for name in sizes)
        weights = {name: len(scores) * SHARES[name] / total / size for name, size in sizes.items()}
        return [replace(score, weight=weights[score.tags["source"]]) for score in scores]

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        found = _scores(scores)
        sources = {f"source:{name}": value for name, value in sorted(found.pop("sources").items())}
        return found | sources
