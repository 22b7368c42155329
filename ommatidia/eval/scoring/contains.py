"""Whether an answer contains a reference: OCRBench's rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score, grouped
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, references_of


def contains(answer: str, references: str | Sequence[str]) -> bool:
    """Whether any reference is a substring of the answer; lower-case, stripped, line breaks as spaces.

    An empty reference would match anything, so it matches nothing.
    """
    references = [references] if isinstance(references, str) else references
    given = _plain(answer)
    return any(wanted in given for wanted in map(_plain, references) if wanted)


OcrBenchVariant = Literal["official", "folded"]

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def ocrbench_match(
    answer: str, references: str | Sequence[str], *, dataset: str, variant: OcrBenchVariant = "official"
) -> bool:
    """OCRBench: whether any reference is a substring of the answer.

    For ``dataset`` "HME100k" (formulas) without spaces and line breaks and with case; otherwise as ``contains``.
    ``folded`` (newest lmms-eval) first turns full-width ASCII into plain ASCII in all but HME100k.
    """
    references = [references] if isinstance(references, str) else references
    if dataset == "HME100k":
        given, *wanted = (text.strip().replace("\n", "").replace(" ", "") for text in (answer, *references))
        return any(reference in given for reference in wanted if reference)
    if variant == "folded":
        answer, *references = (text.translate(_FULL_WIDTH) for text in (answer, *references))
    return contains(answer, references)


class OcrBenchScorer(ScorerConfig):
    """OCRBench's substring rule by ``meta["dataset"]``; the number of hits, of 1000 in all, stands beside the share."""

    kind: Literal["ocrbench"] = "ocrbench"
    variant: OcrBenchVariant = "official"

    def score(self, sample: Sample, answer: str) -> float:
        dataset = str(meta_of(sample, "dataset"))
        return float(ocrbench_match(answer, references_of(sample), dataset=dataset, variant=self.variant))

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        hits = {f"hits:{name}": sum(s.value for s in inside) for name, inside in grouped(scores, "task").items()}
        return {"hits": sum(score.value for score in scores)} | dict(sorted(hits.items()))


def _plain(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


class ContainsScorer(ScorerConfig):
    """1 when the answer contains a reference."""

    kind: Literal["contains"] = "contains"

    def score(self, sample: Sample, answer: str) -> float:
        return float(contains(answer, references_of(sample)))
