"""GQA's exact match."""

from __future__ import annotations

import string
from typing import Literal

from ommatidia.core.types import Sample
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

Variant = Literal["lmms_eval", "vlmevalkit", "cambrian"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def gqa_match(answer: str, target: str, *, variant: Variant = "lmms_eval") -> bool:
    """Whether the answer is the target.

    ``lmms_eval``: lower case, all ASCII punctuation deleted, so "t-shirt" equals "tshirt"; articles, number words and
    inner spaces count. ``vlmevalkit``: strip and lower case only. ``cambrian``: lower case and the answer's final
    periods dropped.
    """
    if variant == "lmms_eval":
        given, wanted = (text.lower().translate(_NO_PUNCTUATION) for text in (answer, target))
        return given == wanted
    if variant == "vlmevalkit":
        return answer.strip().lower() == target.strip().lower()
    return answer.lower().rstrip(".") == target.lower()


class GqaScorer(ScorerConfig):
    """1 when the answer is the reference but for case and punctuation."""

    kind: Literal["gqa"] = "gqa"
    variant: Variant = "lmms_eval"

    def score(self, sample: Sample, answer: str) -> float:
        return float(any(gqa_match(answer, reference, variant=self.variant) for reference in references_of(sample)))
