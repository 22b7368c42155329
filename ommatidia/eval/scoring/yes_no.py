"""Yes or no, read out of an answer."""

from __future__ import annotations

import re
from typing import Literal

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

YesNo = Literal["yes", "no"]
Variant = Literal["mme", "word", "exact"]


def yes_no(answer: str, *, variant: Variant = "mme") -> YesNo | None:
    """The answer as "yes" or "no"; None when it is neither.

    ``mme``: lower-case, strip, delete periods; "yes", "no", "y" or "n" as a whole, or "yes", else "no", within the
    first four characters (the reference implementation of MME; it reads "nothing" as no).
    ``word``: the one of the whole words yes and no that occurs; both or neither is None (VLMEvalKit on POPE).
    ``exact``: strip and lower-case only (lmms-eval on POPE).
    """
    text = answer.strip().lower()
    if variant == "exact":
        return _whole(text)
    if variant == "word":
        words = set(re.findall(r"\w+", text))
        return None if ("yes" in words) == ("no" in words) else "yes" if "yes" in words else "no"
    text = text.replace(".", "")
    if len(text) == 1:
        return _whole({"y": "yes", "n": "no"}.get(text, ""))
    start = text[:4]
    return "yes" if "yes" in start else "no" if "no" in start else None


def _whole(text: str) -> YesNo | None:
    return "yes" if text == "yes" else "no" if text == "no" else None


class YesNoScorer(ScorerConfig):
    """1 when the answer, read as yes or no, is the reference."""

    kind: Literal["yes_no"] = "yes_no"
    variant: Variant = "mme"

    def score(self, sample: Sample, answer: str) -> float:
        reference = references_of(sample)[0]
        target = yes_no(reference, variant="word")
        if target is None:
            raise DataError(f"the reference is {reference!r}, expected yes or no", sample=sample.id)
        return float(yes_no(answer, variant=self.variant) == target)

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return yes_no(answer, variant=self.variant)
