"""Scorers that may ask a language model: what they ask, and what they make of its reply. Pure: they never call it."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score, grouped, mean
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, references_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge's reply makes of an answer."""

    value: float
    parsed: str | None
    weight: float = 1.0


class JudgedScorer(ScorerConfig):
    """Rules first; what they cannot read may go to a judge. Without one ``score`` says what the rules alone give."""

    needs_judge: ClassVar[bool] = False
    """True where there are no rules to fall back on."""

    @abstractmethod
    def question(self, sample: Sample, answer: str) -> str | None:
        """What a judge is asked about ``answer``; None where the rules suffice. Raises DataError like ``score``."""

    @abstractmethod
    def verdict(self, sample: Sample, answer: str, reply: str) -> Verdict | None:
        """The reply read; None when it is nonsense."""


def which_option(answer: str, options: Mapping[str, str]) -> str:
    """Asks for the letter of the option that an answer means."""
    lines = "\n".join(f"{letter}. {text}" for letter, text in options.items())
    return (
        "A model was given a multiple-choice question and replied in its own words. Decide which option the reply "
        f"means. Answer with one letter and nothing else, or with Z if it means none of them.\n\nOptions:\n{lines}\n\n"
        f"Reply:\n{answer}\n\nLetter:"
    )


def option_of(reply: str, options: Mapping[str, str]) -> str | None:
    """The letter of such a reply, Z for none of them; None when it is nonsense."""
    found = re.fullmatch(r"[\s(]*([A-Z])[\s).:]*", reply)
    return found[1] if found and (found[1] in options or found[1] == "Z") else None


class MmVetScorer(JudgedScorer):
    """MM-Vet: a judge gives 0.0 to 1.0 in steps of a tenth; by capability and by combination of capabilities.

    The prompt is ours, made to the same rule; numbers compare only under one judge and one prompt.
    """

    kind: Literal["mm_vet"] = "mm_vet"
    needs_judge = True

    def question(self, sample: Sample, answer: str) -> str | None:
        if not answer:
            return None
        truth = references_of(sample)[0].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
        return (
            "Grade how correct a prediction is against the ground truth, from 0.0 (wrong) to 1.0 (right) in steps of "
            "0.1. Parts of the ground truth joined by <AND> must all be there, each with its share of the grade; of "
            "parts joined by <OR> one is enough. Reply with the grade and nothing else.\n\n"
            f"Question: {meta_of(sample, 'question')}\nGround truth: {truth}\nPrediction: {answer}\nGrade:"
        )

    def score(self, sample: Sample, answer: str) -> float:
        if answer:
            raise DataError("MM-Vet has no rules: only a judge can grade this answer", sample=sample.id)
        return 0.0

    def verdict(self, sample: Sample, answer: str, reply: str) -> Verdict | None:
        found = re.fullmatch(r"\s*(0(?:\.\d)?|1(?:\.0)?)\s*\.?\s*", reply)
        return Verdict(float(found[1]), found[1]) if found else None

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        return {"capabilities": ",".join(sorted(meta_of(sample, "capabilities")))}

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        single: dict[str, list[Score]] = {}
        for score in scores:
            for name in score.tags["capabilities"].split(","):
                single.setdefault(name, []).append(score)
        found = {f"capability:{name}": mean(inside) for name, inside in sorted(single.items())}
        combined = sorted(grouped(scores, "capabilities").items())
        return found | {f"combination:{names}": mean(inside) for names, inside in combined}


class LlavaBenchScorer(JudgedScorer):
    """LLaVA-Bench: a judge grades the stored reference answer and ours, 1 to 10; the score is the ratio of the means.

    It may pass 1. A failed call is a missing value here, where other tools average it in as a tie.
    """

    kind: Literal["llava_bench"] = "llava_bench"
    needs_judge = True
    most = 10.0

    def question(self, sample: Sample, answer: str) -> str | None:
        return (
            "Two assistants answered a question about a picture that you know only by its description. Grade each for "
            "helpfulness, relevance, accuracy and detail, from 1 to 10. Do not let the order of the two count. The "
            "first line of your reply holds nothing but the two grades, first and second assistant, with a space "
            f"between them; reasons may follow.\n\nDescription:\n{meta_of(sample, 'caption')}\n\nQuestion:\n"
            f"{sample.question.strip()}\n\nFirst assistant:\n{references_of(sample)[0]}\n\n"
            f"Second assistant:\n{answer}\n"
        )

    def score(self, sample: Sample, answer: str) -> float:
        raise DataError("LLaVA-Bench has no rules: only a judge can grade this answer", sample=sample.id)

    def verdict(self, sample: Sample, answer: str, reply: str) -> Verdict | None:
        first = reply.strip().splitlines()[0] if reply.strip() else ""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)[\s,]+(\d+(?:\.\d+)?)\s*", first)
        if not found:
            return None
        reference, ours = float(found[1]), float(found[2])
        if not (1 <= reference <= 10 and 1 <= ours <= 10):
            return None
        return Verdict(ours / reference, first.strip(), weight=reference)
