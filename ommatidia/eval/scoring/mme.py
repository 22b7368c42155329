"""MME: two yes-or-no questions an image; a category scores accuracy plus the share of images with both right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Literal, TypedDict

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score, balanced
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, need
from ommatidia.eval.scoring.yes_no import Variant, target_of, yes_no

PERCEPTION = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


class MmeRecord(TypedDict):
    """One answered question of MME."""

    category: str
    question_id: str
    """The image: two records share it."""
    answer: str
    target: str
    """Yes or No."""


def mme_scores(records: Iterable[MmeRecord | Mapping[str, Any]], *, variant: Variant = "mme") -> dict[str, Any]:
    """``categories`` with accuracy, accuracy_plus and score (their sum, at most 200) of each; their sums over the ten
    categories of ``perception`` (at most 2000) and the four of ``cognition`` (at most 800).

    ``variant`` is the rule of ``yes_no``; ``cambrian_mme`` is Cambrian-1's. Raises DataError for an unknown category, a
    image without exactly two questions, or a reference that is neither yes nor no.
    """
    rights: dict[tuple[str, str], list[bool]] = {}
    for record in records:
        need(record, "category", "question_id", "answer", "target")
        target = yes_no(str(record["target"]), variant="word")
        if target is None:
            raise DataError(f"the reference is {record['target']!r}, expected yes or no")
        pair = rights.setdefault((str(record["category"]), str(record["question_id"])), [])
        pair.append(yes_no(str(record["answer"]), variant=variant) == target)
    return _scores(rights)


def _scores(rights: Mapping[tuple[str, str], Sequence[bool]]) -> dict[str, Any]:
    pairs: dict[str, list[Sequence[bool]]] = {}
    for (category, picture), right in rights.items():
        if category not in PERCEPTION + COGNITION:
            raise DataError(f"no category of MME: {category!r}; there are {', '.join(PERCEPTION + COGNITION)}")
        if len(right) != 2:
            raise DataError(
                f"{category}, picture {picture!r}: {len(right)} questions; MME pairs two questions a picture"
            )
        pairs.setdefault(category, []).append(right)
    categories = {}
    for category, listed in pairs.items():
        accuracy = 100.0 * sum(sum(pair) for pair in listed) / (2 * len(listed))
        plus = 100.0 * sum(all(pair) for pair in listed) / len(listed)
        categories[category] = {"accuracy": accuracy, "accuracy_plus": plus, "score": accuracy + plus}
    sums = {
        name: sum(categories[category]["score"] for category in members if category in categories)
        for name, members in (("perception", PERCEPTION), ("cognition", COGNITION))
    }
    return sums | {"categories": categories}


class MmeScorer(ScorerConfig):
    """Yes or no in pairs: the headline is perception / 2000, the mean over its categories.

    Tables that print MME-Perception / 20 print 100 times the headline. ``meta`` needs task (the category) and pair.
    """

    kind: Literal["mme"] = "mme"
    variant: Variant = "mme"

    def score(self, sample: Sample, answer: str) -> float:
        return float(yes_no(answer, variant=self.variant) == target_of(sample))

    def guess(self, sample: Sample) -> float:
        return 0.5

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return yes_no(answer, variant=self.variant)

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        return {"task": str(meta_of(sample, "task")), "pair": str(meta_of(sample, "pair"))}

    def units(self, scores: Sequence[Score]) -> Sequence[Score]:
        """One an image: the mean of the share of right answers and of whether both are; perception only."""
        units = []
        for (category, picture), pair in _paired(scores).items():
            if category in PERCEPTION:
                value = (sum(s.value for s in pair) / 2 + prod(s.value for s in pair)) / 2
                units.append(Score(f"{category}/{picture}", value, pair[0].cluster, tags={"task": category}))
        return balanced(units, "task")

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        found = _scores({key: [s.value == 1.0 for s in pair] for key, pair in _paired(scores).items()})
        categories = {f"category:{name}": each["score"] for name, each in sorted(found["categories"].items())}
        return {"perception": found["perception"], "cognition": found["cognition"], **categories}


def _paired(scores: Sequence[Score]) -> dict[tuple[str, str], list[Score]]:
    found: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        found.setdefault((score.tags["task"], score.tags["pair"]), []).append(score)
    return found
