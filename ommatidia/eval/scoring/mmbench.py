"""MMBench: a question counts only when it is answered right in every rotation of its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Literal, NotRequired, TypedDict

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.choice import Variant, choice_letter, lettered, options_of, target_letter
from ommatidia.eval.scoring.judged import WHICH_OPTION, JudgedScorer, Verdict, option_lines, option_of
from ommatidia.eval.scoring.score import Score, grouped, mean
from ommatidia.eval.scoring.scorer import meta_of, need

ROTATION = 1_000_000
"""Rows whose index is this much apart ask one question with its options moved on."""


class MmbenchRecord(TypedDict):
    """One answered row of MMBench."""

    index: int
    answer: str
    target: str
    """The right option's letter."""
    options: Mapping[str, str]
    """By letter, the empty ones left out."""
    category: NotRequired[str]
    l2_category: NotRequired[str]


def mmbench_circular(
    records: Iterable[MmbenchRecord | Mapping[str, Any]], *, variant: Variant = "mmbench_static"
) -> dict[str, Any]:
    """``circular``: the share of questions answered right in every row that shares ``index`` % 1,000,000; ``plain``:
    the share of right rows among those not rotated; ``categories`` and ``l2_categories``: circular, by name.

    ``variant`` is the rule of ``choice_letter`` that reads the letter; an answer that it cannot read is wrong (the
    paper asks a language model about those). Raises DataError when an index stands twice or there is no record.
    """
    scores = []
    for record in records:
        need(record, "index", "answer", "target", "options")
        index = int(record["index"])
        letter = choice_letter(str(record["answer"]).strip(), record["options"], variant=variant)
        names = {"category": "category", "l2": "l2_category"}
        tags = {tag: str(record[name]) for tag, name in names.items() if name in record}  # type: ignore[literal-required]
        tags |= {"question": str(index % ROTATION), "rotated": str(index >= ROTATION)}
        scores.append(Score(str(index), float(letter == record["target"]), "", tags=tags))
    if len({score.id for score in scores}) < len(scores) or not scores:
        raise DataError("an index stands twice" if scores else "no answer to score")
    return _scores(scores)


def _scores(scores: Sequence[Score]) -> dict[str, Any]:
    questions = joined(scores)
    return {
        "circular": mean(questions),
        "plain": mean(score for score in scores if score.tags["rotated"] == "False"),
        "categories": {name: mean(inside) for name, inside in sorted(grouped(questions, "category").items())},
        "l2_categories": {name: mean(inside) for name, inside in sorted(grouped(questions, "l2").items())},
    }


def joined(scores: Sequence[Score]) -> list[Score]:
    """One score a question: whether all its rotations are right."""
    questions = []
    for name, rows in grouped(scores, "question").items():
        right = prod(row.value for row in rows)
        tags = {key: value for key, value in rows[0].tags.items() if key not in ("question", "rotated")}
        questions.append(Score(name, right, rows[0].cluster, tags=tags))
    return questions


class MmbenchScorer(JudgedScorer):
    """The right letter in every rotation (``meta["index"]`` modulo 1,000,000); plain accuracy stands beside it.

    A judge, where there is one, reads the answers that MMBench's own rule cannot; without one ``mmbench_static`` reads
    more forms of these.
    """

    kind: Literal["mmbench"] = "mmbench"
    version = 4
    fields = ("question", "options", "prediction")
    words = WHICH_OPTION
    variant: Variant = "mmbench_static"

    def score(self, sample: Sample, answer: str) -> float:
        return float(choice_letter(answer, options_of(sample), variant=self.variant) == target_letter(sample))

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return choice_letter(answer, options_of(sample), variant=self.variant) or None

    def question(self, sample: Sample, answer: str) -> str | None:
        if not answer or choice_letter(answer, options_of(sample), variant=self._before_judge()):
            return None
        options = option_lines(lettered(options_of(sample)))
        asked = str(sample.meta.get("question") or sample.question).strip()
        return self.asked(question=asked, options=options, prediction=answer)

    def _before_judge(self) -> Variant:
        return "mmbench" if self.variant == "mmbench_static" else self.variant

    def verdict(self, sample: Sample, answer: str, reply: str) -> Verdict | None:
        letter = option_of(reply, lettered(options_of(sample)))
        if letter is None:
            return None
        return Verdict(float(letter == target_letter(sample)), None if letter == "Z" else letter)

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        index = int(meta_of(sample, "index"))
        l2 = sample.meta.get("l2_category")
        found = {"question": str(index % ROTATION), "rotated": str(index >= ROTATION)}
        return found | ({} if l2 is None else {"l2": str(l2)})

    def units(self, scores: Sequence[Score]) -> Sequence[Score]:
        return joined(scores)

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        found = _scores(scores)
        l2 = {f"l2:{name}": value for name, value in found["l2_categories"].items()}
        return {"circular": found["circular"], "plain": found["plain"], **l2}
