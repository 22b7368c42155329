"""Whether an answer contains a reference: as whole words, and OCRBench's rule."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score, grouped
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, references_of


def contains(answer: str, references: str | Sequence[str]) -> bool:
    """Whether the answer contains a reference as whole words.

    Both sides in Unicode form NFKC, case folded, runs of spaces as one, every hyphen and dash as "-", curly apostrophes
    straight. A match neither begins nor ends inside a word or a number: "no" is not in "nothing", nor "5" in "15" or
    "1.5", but it is in "no-one" and "5%". Scripts written without spaces (Chinese, Japanese, Thai, Khmer) have no such
    borders. An empty reference would match anything, so it matches nothing.
    """
    references = [references] if isinstance(references, str) else references
    given = _folded(answer)
    return any(_holds(given, wanted) for wanted in map(_folded, references) if wanted)


_HYPHENS = re.compile("[\u00ad\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SPACED = re.compile(rf"(?![{_UNSPACED}])\w")


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_HYPHENS.sub("-", text).replace("\u2019", "'").replace("\u2018", "'").split())


def _holds(text: str, wanted: str) -> bool:
    place = text.find(wanted)
    while place >= 0:
        end = place + len(wanted)
        if _borders(text[max(place - 2, 0) : place], wanted[0]) and _borders(text[end : end + 2][::-1], wanted[-1]):
            return True
        place = text.find(wanted, place + 1)
    return False


def _borders(outside: str, inside: str) -> bool:
    """Whether a word may end between ``inside`` and the two characters beside it, of which the last is next to it."""
    if not outside or not _SPACED.match(inside):
        return True
    if inside.isdigit() and outside[-1] in ".," and outside[:-1].isdigit():
        return False
    return not _SPACED.match(outside[-1])


OcrBenchVariant = Literal["official", "folded"]

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def ocrbench_match(
    answer: str, references: str | Sequence[str], *, dataset: str, variant: OcrBenchVariant = "official"
) -> bool:
    """OCRBench: whether any reference is a substring of the answer.

    For ``dataset`` "HME100k" (formulas) without spaces and line breaks and with case; otherwise in lower case, stripped
    and with line breaks as spaces, anywhere, inside words too, and code point by code point. An empty reference would
    match anything, so it matches nothing.
    ``folded`` (newest lmms-eval) first turns full-width ASCII into plain ASCII in all but HME100k.
    """
    references = [references] if isinstance(references, str) else references
    if dataset == "HME100k":
        given, *wanted = (text.strip().replace("\n", "").replace(" ", "") for text in (answer, *references))
        return any(reference in given for reference in wanted if reference)
    if variant == "folded":
        answer, *references = (text.translate(_FULL_WIDTH) for text in (answer, *references))
    given = _plain(answer)
    return any(wanted in given for wanted in map(_plain, references) if wanted)


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
    """1 when the answer contains a reference as whole words, whatever the case, Unicode form (NFKC) and hyphens."""

    kind: Literal["contains"] = "contains"
    version = 2

    def score(self, sample: Sample, answer: str) -> float:
        return float(contains(answer, references_of(sample)))
