"""MMVP: two images that CLIP confuses, one question; only both right counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Literal, TypedDict

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.choice import Variant, choice_letter, options_of, target_letter
from ommatidia.eval.scoring.score import Score, grouped, mean
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, need


class MmvpRecord(TypedDict):
    """One answered question of MMVP."""

    index: int
    """From 1 on: 1 and 2 are a pair, 3 and 4, and so on."""
    answer: str
    target: str
    """The right option's letter, A or B."""
    options: Sequence[str]


def mmvp_pairs(records: Iterable[MmvpRecord | Mapping[str, Any]], *, variant: Variant = "mmvp") -> dict[str, float]:
    """``pair_accuracy`` (the number that papers print), ``item_accuracy`` and the number of ``pairs``.

    ``variant`` is the rule of ``choice_letter``. The re-hosted set has the answers of two pairs mended, so numbers
    differ from the original set's. Raises DataError when a question lacks its other half.
    """
    scores = []
    for record in records:
        need(record, "index", "answer", "target", "options")
        letter = choice_letter(str(record["answer"]).strip(), record["options"], variant=variant)
        pair = str((int(record["index"]) - 1) // 2)
        right = float(letter == str(record["target"]).strip("()").upper())
        scores.append(Score(str(record["index"]), right, pair, tags={"pair": pair}))
    pairs = joined(scores)
    return {"pair_accuracy": mean(pairs), "item_accuracy": mean(scores), "pairs": float(len(pairs))}


def joined(scores: Sequence[Score]) -> list[Score]:
    """One score a pair. Raises DataError when a pair is not two questions."""
    pairs = []
    for name, pair in grouped(scores, "pair").items():
        if len(pair) != 2:
            raise DataError(f"pair {name}: {len(pair)} questions, expected 2")
        pairs.append(Score(name, prod(s.value for s in pair), name))
    return pairs


class MmvpScorer(ScorerConfig):
    """The right letter in both questions of a pair (``meta["pair"]``); item accuracy stands beside it."""

    kind: Literal["mmvp"] = "mmvp"
    version = 2
    variant: Variant = "mmvp"

    def score(self, sample: Sample, answer: str) -> float:
        return float(choice_letter(answer, options_of(sample), variant=self.variant) == target_letter(sample))

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return choice_letter(answer, options_of(sample), variant=self.variant) or None

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        return {"pair": str(meta_of(sample, "pair"))}

    def units(self, scores: Sequence[Score]) -> Sequence[Score]:
        return joined(scores)

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        return {"item_accuracy": mean(scores)}
