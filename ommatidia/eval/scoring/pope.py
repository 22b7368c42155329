"""POPE: is an object there? Accuracy, precision, recall, F1 and the share of yes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score, grouped
from ommatidia.eval.scoring.scorer import ScorerConfig
from ommatidia.eval.scoring.yes_no import Variant, target_of, yes_no


def pope_scores(pairs: Iterable[tuple[str, str]], *, variant: Variant = "exact") -> dict[str, float]:
    """Accuracy, precision, recall, f1 and yes_ratio, each from 0 to 1, of (answer, reference) pairs.

    ``exact`` (lmms-eval) takes only the bare words yes and no; any other answer is wrong and neither a false positive
    nor a false negative. ``official`` reads everything without a no as yes. ``word`` (VLMEvalKit) and ``cambrian``: see
    ``yes_no``. yes_ratio is the share of answers read as yes (lmms-eval 0.7.3 counts the references instead). A ratio
    of nothing is 0. Raises DataError for a reference that is neither, or no pair at all.
    """
    read = []
    for answer, reference in pairs:
        target = yes_no(reference, variant="word")
        if target is None:
            raise DataError(f"the reference is {reference!r}, expected yes or no")
        read.append((yes_no(answer, variant=variant), target))
    return _scores(read)


def _scores(read: Sequence[tuple[str | None, str]]) -> dict[str, float]:
    if not read:
        raise DataError("no answer to score")
    hits = sum(said == target == "yes" for said, target in read)
    false_yes = sum(said == "yes" != target for said, target in read)
    false_no = sum(said == "no" != target for said, target in read)
    precision = hits / (hits + false_yes) if hits + false_yes else 0.0
    recall = hits / (hits + false_no) if hits + false_no else 0.0
    return {
        "accuracy": sum(said == target for said, target in read) / len(read),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "yes_ratio": sum(said == "yes" for said, _ in read) / len(read),
    }


class PopeScorer(ScorerConfig):
    """Yes or no; the headline is accuracy, and precision, recall and F1 (pooled, and the mean over tasks) beside it."""

    kind: Literal["pope"] = "pope"
    variant: Variant = "exact"

    def score(self, sample: Sample, answer: str) -> float:
        return float(yes_no(answer, variant=self.variant) == target_of(sample))

    def guess(self, sample: Sample) -> float:
        return 0.5

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return yes_no(answer, variant=self.variant)

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        return {"said": yes_no(answer, variant=self.variant) or "", "target": target_of(sample)}

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        pooled = _scores([(s.tags["said"], s.tags["target"]) for s in scores])
        by_task = [
            _scores([(s.tags["said"], s.tags["target"]) for s in inside])["f1"]
            for inside in grouped(scores, "task").values()
        ]
        return pooled | ({"f1_mean": sum(by_task) / len(by_task)} if by_task else {})
