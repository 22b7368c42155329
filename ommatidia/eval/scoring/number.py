"""Equality of numbers, however they are written."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

# A number does not continue a word, a decimal or another number: "B2", "1.2.3" and "1,00,000" are none.
_NUMBER = re.compile(
    r"(?<![\w.,])[-+−]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?(?![.,]?\d)", re.IGNORECASE
)
_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")
_WORDS = {word: value for value, word in enumerate(_SMALL + _TEENS)} | {"none": 0}


def read_number(text: str) -> float | None:
    """The one number that a text states, in digits or else as a word from zero to twenty (or "none").

    Commas separate thousands; currency and percent signs and units are passed over. None when the text states no
    number or several different ones.
    """
    found = {float(match.replace(",", "").replace("−", "-")) for match in _NUMBER.findall(text)}
    if not found:
        found = {float(_WORDS[word]) for word in re.findall(r"[a-z]+", text.lower()) if word in _WORDS}
    value = found.pop() if len(found) == 1 else None
    return value if value is not None and math.isfinite(value) else None


def number_match(answer: str, target: str, *, tolerance: float = 0.0) -> bool:
    """Whether the answer states the target's number, within ``tolerance`` relative to it (rounding aside).

    Raises DataError when the target is not one number.
    """
    wanted = read_number(target)
    if wanted is None:
        raise DataError(f"the reference is {target!r}, expected one number")
    given = read_number(answer)
    return given is not None and math.isclose(given, wanted, rel_tol=1e-9, abs_tol=tolerance * abs(wanted) + 1e-12)


class NumberScorer(ScorerConfig):
    """1 when the answer states the reference's number."""

    kind: Literal["number"] = "number"
    tolerance: float = Field(default=0.0, ge=0.0)

    def score(self, sample: Sample, answer: str) -> float:
        return float(any(number_match(answer, ref, tolerance=self.tolerance) for ref in references_of(sample)))

    def parsed(self, sample: Sample, answer: str) -> str | None:
        value = read_number(answer)
        return None if value is None else f"{value:g}"
