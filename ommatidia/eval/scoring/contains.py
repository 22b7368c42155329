"""Whether an answer contains a reference: OCRBench's rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ommatidia.core.types import Sample
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of


def contains(answer: str, references: str | Sequence[str]) -> bool:
    """Whether any reference is a substring of the answer; lower-case, stripped, line breaks as spaces.

    An empty reference would match anything, so it matches nothing.
    """
    references = [references] if isinstance(references, str) else references
    given = _plain(answer)
    return any(wanted in given for wanted in map(_plain, references) if wanted)


def _plain(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


class ContainsScorer(ScorerConfig):
    """1 when the answer contains a reference."""

    kind: Literal["contains"] = "contains"

    def score(self, sample: Sample, answer: str) -> float:
        return float(contains(answer, references_of(sample)))
