"""ChartQA's relaxed accuracy: numbers within 5 %, everything else by equality."""

from __future__ import annotations

from typing import Literal

from ommatidia.core.types import Sample
from ommatidia.eval.scoring.cambrian import numbers_agree
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

Variant = Literal["lmms_eval", "cambrian"]

_TOLERANCE = 0.05


def relaxed_accuracy(answer: str, target: str, *, variant: Variant = "lmms_eval") -> bool:
    """Whether the answer is the target, as lmms-eval and the ChartQA paper decide it.

    Where both sides are numbers for Python's ``float`` (a final % divides by 100) and the target is not zero: within
    5 % of the target. Otherwise equal but for case. So "977,633" and "$5" are not numbers, "0.0" is not "0", "50%" is
    "0.5", and a year may be off by a hundred. ``cambrian``: a % is no number, and a target of zero is one.
    """
    answer, target = answer.strip(), target.strip()
    if variant == "cambrian":
        return answer.lower() == target.lower() or numbers_agree(answer, target, of=target)
    given, wanted = _number(answer), _number(target)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= _TOLERANCE
    return answer.lower() == target.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


class RelaxedScorer(ScorerConfig):
    """ChartQA's relaxed accuracy against the best of the references."""

    kind: Literal["relaxed"] = "relaxed"
    variant: Variant = "lmms_eval"

    def score(self, sample: Sample, answer: str) -> float:
        return float(any(relaxed_accuracy(answer, one, variant=self.variant) for one in references_of(sample)))
