"""RealWorldQA: a letter where the answer is one, otherwise equality of short answers."""

from __future__ import annotations

import re
from typing import Literal

from ommatidia.core.types import Sample
from ommatidia.eval.scoring.choice import choice_letter
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

Variant = Literal["lmms_eval", "cambrian"]

_LETTERS = dict.fromkeys("ABCD", "")


def realworldqa_match(answer: str, target: str, *, variant: Variant = "lmms_eval") -> bool:
    """Whether the answer is the target.

    ``lmms_eval``: a target of A to D against the letter that its shared extractor reads; others without case and final
    periods. ``cambrian``: the first word after the last "answer is" or "answer:", without final period and case.
    """
    answer, target = answer.strip(), target.strip()
    if variant == "lmms_eval":
        if target.upper() in _LETTERS:
            return choice_letter(answer, _LETTERS, variant="lmms_eval") == target.upper()
        return answer.lower().rstrip(".") == target.lower()
    text = answer.lower()
    for phrase in ("answer is:", "answer is", "answer:"):
        text = text.rpartition(phrase)[2] if phrase in text else text
    words = text.split()
    return bool(words) and words[0].rstrip(".") == target.lower()


class RealWorldScorer(ScorerConfig):
    """1 when the answer is RealWorldQA's letter or short answer."""

    kind: Literal["realworldqa"] = "realworldqa"
    version = 2
    variant: Variant = "lmms_eval"

    def guess(self, sample: Sample) -> float:
        """One of the options that the question lists, each on a line of its own; yes or no; nothing of a number."""
        listed = len(re.findall(r"^[A-D][.)] ", sample.question, re.MULTILINE))
        return 1.0 / listed if listed else 0.5 * (references_of(sample)[0].strip().lower() in ("yes", "no"))

    def score(self, sample: Sample, answer: str) -> float:
        return float(realworldqa_match(answer, references_of(sample)[0], variant=self.variant))
