"""ANLS, the average normalised Levenshtein similarity of DocVQA and InfoVQA: here the value of one question."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

Variant = Literal["lmms_eval", "paper"]


def anls(answer: str, references: Sequence[str], *, threshold: float = 0.5, variant: Variant = "lmms_eval") -> float:
    """The best similarity 1 - distance / longer length over the references, 0 below ``threshold``.

    Both sides are brought to Unicode form NFC (no toolkit does; equal but for texts in other forms), lower-cased, and
    runs of spaces collapsed. Then characters are compared one by one: there are no words, so punctuation, hyphens,
    accents and full-width forms stay and cost. ``lmms_eval`` (and VLMEvalKit)
    divides by the raw lengths and keeps a similarity of exactly ``threshold``; ``paper`` divides by the normalised
    lengths and gives 0 there. Two empty strings are equal. Raises DataError when there is no reference.
    """
    if isinstance(references, str):
        references = [references]
    if not references:
        raise DataError("ANLS needs a reference answer")
    answer, *references = (unicodedata.normalize("NFC", text) for text in (answer, *references))
    raw = variant == "lmms_eval"
    best = max(_similarity(answer, reference, threshold=threshold, raw=raw) for reference in references)
    kept = best >= threshold if variant == "lmms_eval" else best > threshold or best == 1.0
    return best if kept else 0.0


def _similarity(answer: str, reference: str, *, threshold: float, raw: bool) -> float:
    """0 where lengths alone keep it under the threshold, so that a long answer costs no more than its length."""
    given, wanted = (" ".join(text.lower().split()) for text in (answer, reference))
    # The reference implementation measures the upper-cased text, in which one character may become two.
    longest = max(len(answer.upper()), len(reference.upper())) if raw else max(len(given), len(wanted))
    if longest == 0:
        return 1.0
    if 1.0 - abs(len(given) - len(wanted)) / longest < threshold:
        return 0.0
    return 1.0 - edit_distance(given, wanted) / longest


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions of characters."""
    if a == b:
        return 0
    if len(a) < len(b):
        a, b = b, a
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


class AnlsScorer(ScorerConfig):
    """ANLS of the answer against the best of the references: by characters, lower case, Unicode form NFC."""

    kind: Literal["anls"] = "anls"
    version = 3
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    variant: Variant = "lmms_eval"

    def score(self, sample: Sample, answer: str) -> float:
        return anls(answer, references_of(sample), threshold=self.threshold, variant=self.variant)
