"""Yes or no, read out of an answer."""

from __future__ import annotations

import re
from typing import Literal

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

YesNo = Literal["yes", "no"]
Variant = Literal["mme", "word", "exact", "official", "cambrian", "cambrian_mme", "somewhere"]


def yes_no(answer: str, *, variant: Variant = "mme") -> YesNo | None:
    """The answer as "yes" or "no"; None when it is neither.

    ``mme``: lower-case, strip, delete periods; "yes", "no", "y" or "n" as a whole, or "yes", else "no", within the
    first four characters (the reference implementation of MME; it reads "nothing" as no).
    ``word``: the one of the whole words yes and no that occurs; both or neither is None (VLMEvalKit on POPE).
    ``exact``: strip and lower-case only (lmms-eval on POPE).
    ``official``: POPE's own script: of the text before the first period, commas deleted, "no" when one of its words
    is No, no or not, and otherwise always yes, also for an empty answer.
    ``cambrian``: the first word without final periods, colons and commas, in any case (Cambrian-1 on POPE).
    ``cambrian_mme``: the whole answer without final periods, in any case (Cambrian-1 on MME).
    ``somewhere``: "yes" where these letters occur, and otherwise always no (lmms-eval on HallusionBench, no judge).
    """
    if variant == "official":
        said = answer.partition(".")[0].replace(",", "").split(" ")
        return "no" if {"No", "no", "not"}.intersection(said) else "yes"
    text = answer.strip().lower()
    if variant == "cambrian":
        return _whole(text.split()[0].rstrip(".:,")) if text else None
    if variant == "exact":
        return _whole(text)
    if variant == "cambrian_mme":
        return _whole(text.rstrip("."))
    if variant == "somewhere":
        return "yes" if "yes" in text else "no"
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


def target_of(sample: Sample) -> YesNo:
    """The reference. Raises DataError when it is neither yes nor no."""
    reference = references_of(sample)[0]
    target = yes_no(reference, variant="word")
    if target is None:
        raise DataError(f"the reference is {reference!r}, expected yes or no", sample=sample.id)
    return target


class YesNoScorer(ScorerConfig):
    """1 when the answer, read as yes or no, is the reference."""

    kind: Literal["yes_no"] = "yes_no"
    variant: Variant = "mme"

    def score(self, sample: Sample, answer: str) -> float:
        return float(yes_no(answer, variant=self.variant) == target_of(sample))

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return yes_no(answer, variant=self.variant)
