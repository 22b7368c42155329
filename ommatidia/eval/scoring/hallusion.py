"""HallusionBench without a judge: accuracy over questions, over figures and over groups of one question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score, grouped, mean
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, need
from ommatidia.eval.scoring.yes_no import Variant, target_of, yes_no

_NAMES = ("category", "subcategory", "set_id", "figure_id", "question_id")


class HallusionRecord(TypedDict):
    """One answered question of HallusionBench."""

    category: str
    """VD (visual dependent) or VS (visual supplement)."""
    subcategory: str
    set_id: str
    figure_id: str
    question_id: str
    answer: str
    target: str
    """"1" for yes, "0" for no; or the words."""


def hallusion_scores(
    records: Iterable[HallusionRecord | Mapping[str, Any]], *, variant: Variant = "word"
) -> dict[str, float]:
    """``aAcc`` over questions, ``fAcc`` over figures and ``qAcc`` over question groups with all answers right, and
    their ``average``, as VLMEvalKit computes them without a judge.

    A figure is named by category, subcategory, set and figure, a group by the first three and the question: sets of
    one number stand in both categories. ``somewhere`` reads an answer as lmms-eval does in its judge-free code; its
    published task asks a judge, and its numbers are not comparable. Raises DataError for a reference that is neither,
    or no record.
    """
    scores = []
    for number, record in enumerate(records):
        need(record, *_NAMES, "answer", "target")
        target = {"1": "yes", "0": "no"}.get(str(record["target"])) or yes_no(str(record["target"]), variant="word")
        if target is None:
            raise DataError(f"the reference is {record['target']!r}, expected 0, 1, yes or no")
        right = float(yes_no(str(record["answer"]), variant=variant) == target)
        scores.append(Score(str(number), right, "", tags=_places(record)))
    return _scores(scores)


def _places(record: Mapping[str, Any]) -> dict[str, str]:
    place = f"{record['category']}/{record['subcategory']}/{record['set_id']}"
    return {"figure": f"{place}/{record['figure_id']}", "question": f"{place}/{record['question_id']}"}


def _scores(scores: Sequence[Score]) -> dict[str, float]:
    if not scores:
        raise DataError("no answer to score")
    found = {"aAcc": mean(scores)}
    for name, tag in (("fAcc", "figure"), ("qAcc", "question")):
        groups = grouped(scores, tag).values()
        found[name] = sum(all(s.value == 1.0 for s in inside) for inside in groups) / len(groups)
    return found | {"average": sum(found.values()) / 3}


class HallusionScorer(ScorerConfig):
    """Yes or no; the headline is aAcc, and fAcc, qAcc and the average of the three stand beside it."""

    kind: Literal["hallusion"] = "hallusion"
    version = 2
    variant: Variant = "word"

    def score(self, sample: Sample, answer: str) -> float:
        return float(yes_no(answer, variant=self.variant) == target_of(sample))

    def guess(self, sample: Sample) -> float:
        return 0.5

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return yes_no(answer, variant=self.variant)

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        return _places({name: meta_of(sample, name) for name in _NAMES})

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        return _scores(scores)
