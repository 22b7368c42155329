"""MathVista: what rules can read of an answer, a lower bound of the official number, and what a judge is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal

from ommatidia.core.types import Sample
from ommatidia.eval.scoring.anls import edit_distance
from ommatidia.eval.scoring.cambrian import numbers_agree
from ommatidia.eval.scoring.choice import choice_letter
from ommatidia.eval.scoring.judged import JudgedScorer, Verdict
from ommatidia.eval.scoring.scorer import meta_of, references_of

Variant = Literal["rules", "cambrian"]
AnswerType = Literal["text", "integer", "float", "list"]


_EXTRACT = """Copy the final answer out of a reply to a question about a picture: a number, a letter, a list or a few \
words, as the question asks for it, and nothing else. Reply NONE if there is no final answer.

Question: How many bottles stand on the shelf? Answer with a whole number.
Reply: I count three on the left and four on the right, so seven bottles stand there.
Final answer: 7

Question: How long is the third side? Answer with a number with one decimal place.
Reply: By the theorem of Pythagoras it is the root of 6.25, which is 2.5 cm.
Final answer: 2.5

Question: What part of the circle is shaded? Answer with a number with two decimal places.
Reply: Three of eight equal parts, hence 3 / 8 = 0.375, roughly 0.38.
Final answer: 0.38

Question: Between which years did sales fall? Answer with a list.
Reply: Sales fell from 2003 until 2006.
Final answer: [2003, 2006]

Question: Which line is steeper? Choices: (A) the red line (B) the blue line
Reply: The blue one climbs faster, so the second choice is right.
Final answer: B

Question: {question}
Reply: {prediction}
Final answer:"""
"""Five examples, one a form of answer, as the official extraction prompt has."""


def mathvista_extract(answer: str, *, answer_type: str, choices: Sequence[str] | None = None) -> str:
    """The part of a reply that answers, by rules alone, or "" when they find none.

    A choice's text, a number that parses, and a quoted text in ``The answer is "..."`` are taken as the official script
    takes them before it asks a language model; then ``choice_letter`` or the last number or list of the reply.
    """
    answer = answer.strip()
    if choices and answer in choices:
        return answer
    if answer_type in ("integer", "float"):
        try:
            return str(int(answer) if answer_type == "integer" else float(answer))
        except ValueError:
            pass
    if (quoted := _quoted(answer)) is not None:
        return quoted
    if choices:
        letter = choice_letter(answer, choices)
        return choices[ascii_uppercase.index(letter)] if letter else ""
    form = r"\[[^\[\]]*\]" if answer_type == "list" else r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+"
    if answer_type in ("integer", "float", "list"):
        found = re.findall(form, answer)
        return str(found[-1]).replace(",", "") if found and answer_type != "list" else str(found[-1]) if found else ""
    return answer


def _quoted(answer: str) -> str | None:
    """What stands in the first ``The answer is "..."`` that is closed on its line, up to the last ``".`` there."""
    opens, closes = 'The answer is "', '".'
    for line in answer.split("\n"):
        start = line.find(opens) + len(opens)
        if start >= len(opens) and (end := line.rfind(closes)) >= start:
            return line[start:end]
    return None


def cambrian_mathvista(answer: str, target: str, *, choices: Sequence[str] | None = None) -> bool:
    """Whether Cambrian-1's script counts a reply: it is the target but for case, or within 5 % of the reply's number.

    Of choices the target is the letter; the script means to read a letter before a period, but looks for it under a
    name that MathVista has not, so a reply with reasoning never counts.
    """
    answer = answer.strip().lower()
    if choices:
        return target in choices and answer == ascii_uppercase[list(choices).index(target)].lower()
    return answer == target.lower() or numbers_agree(answer, target, of=answer)


def mathvista_match(
    extracted: str,
    target: str,
    *,
    answer_type: str,
    choices: Sequence[str] | None = None,
    precision: int | None = None,
) -> bool:
    """Whether an extracted answer is right, by the official normalisation.

    A choice: a letter stands for its text, anything else for the choice of the smallest edit distance. An integer is
    cut to whole, a float rounded to ``precision``, and strings compared. Nothing extracted is wrong.
    """
    extracted = extracted.strip()
    if not extracted:
        return False
    given = extracted
    try:
        if choices:
            bracketed = re.findall(r"\(([a-zA-Z])\)", extracted)
            letter = bracketed[0].upper() if bracketed else extracted
            place = ascii_uppercase.find(letter) if len(letter) == 1 else -1
            near = min(choices, key=lambda choice: edit_distance(letter, choice))
            given = choices[place] if 0 <= place < len(choices) else near
        elif answer_type == "integer":
            given = str(int(float(extracted)))
        elif answer_type == "float":
            given = str(round(float(extracted), precision))
    except (ValueError, OverflowError):
        return False
    return given.strip() == str(target).strip()


class MathVistaScorer(JudgedScorer):
    """MathVista: ``meta`` needs answer_type, and may hold options and precision.

    A judge, where there is one, extracts what rules cannot; its prompt has five examples as the official one, our own.
    """

    kind: Literal["mathvista"] = "mathvista"
    version = 2
    variant: Variant = "rules"
    """``cambrian``: Cambrian-1's comparison of the whole reply, which no judge reads."""
    fields = ("question", "prediction")
    words = _EXTRACT

    def score(self, sample: Sample, answer: str) -> float:
        if self.variant == "cambrian":
            return float(cambrian_mathvista(answer, references_of(sample)[0], choices=sample.meta.get("options")))
        return self._match(sample, self.parsed(sample, answer) or "")

    def _match(self, sample: Sample, extracted: str) -> float:
        precision = sample.meta.get("precision")
        return float(
            mathvista_match(
                extracted,
                references_of(sample)[0],
                answer_type=str(meta_of(sample, "answer_type")),
                choices=sample.meta.get("options"),
                precision=None if precision is None else int(precision),
            )
        )

    def parsed(self, sample: Sample, answer: str) -> str | None:
        if self.variant == "cambrian":
            return answer.strip() or None
        kind = str(meta_of(sample, "answer_type"))
        return mathvista_extract(answer, answer_type=kind, choices=sample.meta.get("options")) or None

    def question(self, sample: Sample, answer: str) -> str | None:
        if self.variant == "cambrian" or not answer or self.parsed(sample, answer) is not None:
            return None
        return self.asked(question=sample.question.strip(), prediction=answer)

    def verdict(self, sample: Sample, answer: str, reply: str) -> Verdict | None:
        reply = reply.strip()
        if reply == "NONE":
            return Verdict(0.0, None)
        extracted = mathvista_extract(
            reply, answer_type=str(meta_of(sample, "answer_type")), choices=sample.meta.get("options")
        )
        return Verdict(self._match(sample, extracted), extracted) if extracted else None
