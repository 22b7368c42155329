"""Scorers that may ask a language model: what they ask, and what they make of its reply. Pure: they never call it."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score, grouped, mean
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, references_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge's reply makes of an answer."""

    value: float
    parsed: str | None
    weight: float = 1.0


def averaged(verdicts: Sequence[Verdict]) -> Verdict:
    """Several verdicts on one answer as one: the mean, weighted as each is, so that a ratio stays a ratio of means."""
    total = sum(verdict.weight for verdict in verdicts)
    value = sum(verdict.weight * verdict.value for verdict in verdicts) / total
    said = list(dict.fromkeys(verdict.parsed for verdict in verdicts if verdict.parsed is not None))
    return Verdict(value, " / ".join(said) or None, total / len(verdicts))


class JudgedScorer(ScorerConfig):
    """Rules first; what they cannot read may go to a judge. Without one ``score`` says what the rules alone give."""

    needs_judge: ClassVar[bool] = False
    """True where there are no rules to fall back on."""
    fields: ClassVar[tuple[str, ...]]
    """What a judge's prompt must hold, each in braces."""
    words: ClassVar[str]
    """Our own prompt, made to the protocol of the official one."""

    judge_prompt: str = ""
    """Another prompt in place of ours: the text itself, or ``@`` and the file that holds it."""
    judge_runs: int = Field(default=1, ge=1, le=100)
    """How often a judge is asked each question; the verdicts are averaged. Papers on MM-Vet ask five times."""

    @field_validator("judge_prompt")
    @classmethod
    def _worded(cls, given: str) -> str:
        if given.startswith("@"):
            try:
                given = Path(given[1:]).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{given[1:]}: {getattr(error, 'strerror', None) or error}") from None
        for field in cls.fields if given else ():
            if f"{{{field}}}" not in given:
                raise ConfigError(f"the judge's prompt has no place {{{field}}}; it needs {', '.join(cls.fields)}")
        return given

    def hashed(self) -> Any:
        # The words that are really sent: ours may come to be others.
        data = {**super().hashed(), "judge_prompt": self.judge_prompt or self.words}
        return data if self.judge_runs > 1 else {name: data[name] for name in data if name != "judge_runs"}

    def asked_how(self) -> str:
        """Whose words a judge is asked in and how often, unless ours and once: numbers compare only under one."""
        prompt = f", given {digest(self.judge_prompt)[:8]} prompt" if self.judge_prompt else ""
        return prompt + (f", mean of {self.judge_runs} runs" if self.judge_runs > 1 else "")

    def asked(self, **values: str) -> str:
        """The prompt with its places filled; a brace inside a value is no place."""
        return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), self.judge_prompt or self.words)

    @abstractmethod
    def question(self, sample: Sample, answer: str) -> str | None:
        """What a judge is asked about ``answer``; None where the rules suffice. Raises DataError like ``score``."""

    @abstractmethod
    def verdict(self, sample: Sample, answer: str, reply: str) -> Verdict | None:
        """The reply read; None when it is nonsense."""


WHICH_OPTION = """A model was given a multiple-choice question and replied in its own words. Decide which option the \
reply means. Answer with one letter and nothing else, or with Z if it means none of them.

Question: Which fruit is shown?
Options:
A. a lemon
B. a plum
Reply: It must be the yellow citrus.
Letter: A

Question: Where is the cup?
Options:
A. on the table
B. on the shelf
Reply: No cup can be seen.
Letter: Z

Question: {question}
Options:
{options}
Reply: {prediction}
Letter:"""
"""Two examples, then the question, its options and the reply, as in MMBench's protocol."""


def option_lines(options: Mapping[str, str]) -> str:
    """One line an option: ``A. text``."""
    return "\n".join(f"{letter}. {text}" for letter, text in options.items())


def option_of(reply: str, options: Mapping[str, str]) -> str | None:
    """The letter of such a reply, Z for none of them; None when it is nonsense."""
    found = re.fullmatch(r"[\s(]*([A-Z])[\s).:]*", reply)
    return found[1] if found and (found[1] in options or found[1] == "Z") else None


class MmVetScorer(JudgedScorer):
    """MM-Vet: a judge gives 0.0 to 1.0 in steps of a tenth; by capability and by combination of capabilities.

    The prompt is ours, made to the same protocol: a table of graded examples which the judge continues.
    """

    kind: Literal["mm_vet"] = "mm_vet"
    needs_judge = True
    version = 2
    fields = ("question", "truth", "prediction")
    words = """Grade how correct a prediction is against the ground truth, from 0.0 (wrong) to 1.0 (right) in steps of \
0.1. Parts of the ground truth joined by <AND> must all be there, each with its share of the grade; of parts joined by \
<OR> one is enough. Continue the table with the grade of its last row and nothing else.

Question | Ground truth | Prediction | Grade
--- | --- | --- | ---
Which colours has the flag? | red <AND> white <AND> blue | It is red and white. | 0.7
Which colours has the flag? | red <AND> white <AND> blue | It is green. | 0.0
What does the sign say? | stop <OR> halt | The sign tells drivers to halt. | 1.0
How many people wait, and where? | 4 <AND> at a bus stop | Three people stand at a bus stop. | 0.5
Why is this funny? | The dog wears the judge's wig and seems to give a verdict. | A dog sits in a courtroom. | 0.4
{question} | {truth} | {prediction} |"""

    def question(self, sample: Sample, answer: str) -> str | None:
        if not answer:
            return None
        truth = references_of(sample)[0].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
        return self.asked(question=str(meta_of(sample, "question")), truth=truth, prediction=answer)

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
    fields = ("caption", "question", "reference", "prediction")
    words = """Two assistants answered a question about a picture that you know only by its description. Grade each \
for helpfulness, relevance, accuracy and detail, from 1 to 10. Do not let the order of the two count. The first line \
of your reply holds nothing but the two grades, first and second assistant, with a space between them; reasons may \
follow.

Description:
{caption}

Question:
{question}

First assistant:
{reference}

Second assistant:
{prediction}
"""

    def question(self, sample: Sample, answer: str) -> str | None:
        caption = meta_of(sample, "caption")
        return self.asked(
            caption=caption if isinstance(caption, str) else "\n".join(caption),
            question=sample.question.strip(),
            reference=references_of(sample)[0],
            prediction=answer,
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
