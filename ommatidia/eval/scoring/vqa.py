"""VQA accuracy: the soft vote of ten people, after the normalisation that VQAv2's and TextVQA's servers do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.contractions import CONTRACTIONS
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

Variant = Literal["vqav2", "textvqa"]

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ANY_PUNCTUATION = re.compile(f"[{re.escape(_PUNCTUATION)}]")
_THOUSANDS = re.compile(r"\d,+\d")
# Meant to spare the point of a number on both sides; as published it looks only at what follows.
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32
_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})
_AGREED = 3.0


@lru_cache(maxsize=2**16)
def normalize_vqa(text: str, *, variant: Variant) -> str:
    """An answer as the VQA metric compares it.

    ``vqav2`` (lmms-eval on VQAv2): line breaks to spaces; each of 21 punctuation marks deleted when it stands beside a
    space anywhere in the text, or the text holds a comma between digits, and otherwise turned into a space; periods
    deleted unless a digit follows; lower case; zero to ten as digits; articles dropped; apostrophes of contractions
    put back. ``textvqa`` (the "EvalAI" processor of TextVQA and VizWiz) first lower-cases, deletes commas and question
    marks, and sets 's apart. The original VQAv2 script processes references only where the ten differ; lmms-eval, and
    this, always.
    """
    if variant == "textvqa":
        text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    elif variant != "vqav2":
        raise ConfigError(f"unknown variant {variant!r}. Valid: vqav2, textvqa")
    text = text.replace("\n", " ").replace("\t", " ").strip()
    if _ANY_PUNCTUATION.search(text):
        text = _without_punctuation(text)
    if "." in text:
        text = _PERIOD.sub("", text, count=_MOST_PERIODS)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _without_punctuation(text: str) -> str:
    thousands = _THOUSANDS.search(text) is not None
    plain = text
    for mark in dict.fromkeys(_ANY_PUNCTUATION.findall(text)):
        beside_space = thousands or f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if beside_space else " ")
    return plain


def vqa_accuracy(answer: str, references: Sequence[str], *, variant: Variant = "vqav2") -> float:
    """The mean over the people of min(how many of the others gave this answer / 3, 1).

    With ten people: 0, 0.3, 0.6, 0.9 and from four equal answers on 1. Raises DataError when there is no reference.
    """
    if isinstance(references, str):
        references = [references]
    if not references:
        raise DataError("VQA accuracy needs reference answers")
    given = normalize_vqa(answer, variant=variant)
    total = len(references)
    agree = sum(normalize_vqa(reference, variant=variant) == given for reference in references)
    value = agree * min((agree - 1) / _AGREED, 1.0) + (total - agree) * min(agree / _AGREED, 1.0)
    return value / total


class VqaScorer(ScorerConfig):
    """VQA accuracy against the people's answers: ``vqav2``, or ``textvqa`` for TextVQA and VizWiz."""

    kind: Literal["vqa"] = "vqa"
    variant: Variant = "vqav2"

    def score(self, sample: Sample, answer: str) -> float:
        references: Any = sample.meta.get("references")
        people = references if isinstance(references, Sequence) else references_of(sample)
        return vqa_accuracy(answer, people, variant=self.variant)
