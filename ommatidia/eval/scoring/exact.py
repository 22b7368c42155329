"""Normalised equality of short answers."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

from ommatidia.core.types import Sample
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

_FINAL = ".,;:!?"


def normalize_short(text: str) -> str:
    """Strip, lower-case, collapse spaces, drop final punctuation; a text of punctuation alone stays what it is."""
    words = " ".join(unicodedata.normalize("NFC", text).lower().split())
    return words.rstrip(_FINAL).rstrip() or words


def exact_match(answer: str, references: str | Sequence[str]) -> bool:
    """Whether the answer equals a reference after ``normalize_short``; an empty answer matches nothing."""
    references = [references] if isinstance(references, str) else references
    given = normalize_short(answer)
    return bool(given) and any(given == normalize_short(reference) for reference in references)


class ExactScorer(ScorerConfig):
    """1 when the answer equals a reference after normalisation."""

    kind: Literal["exact"] = "exact"

    def score(self, sample: Sample, answer: str) -> float:
        return float(exact_match(answer, references_of(sample)))
