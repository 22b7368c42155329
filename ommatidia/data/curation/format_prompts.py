"""Format prompts: what makes brevity conditional, against the "answer machine" (Cambrian-1, section 6.4).

A model that is tuned on one-word answers answers everything with one word. A sentence behind the question that asks
for the short form lets it learn that form for that sentence alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.data.conversation import PLACEHOLDER
from ommatidia.data.curation.llava_layout import Layout
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict, check_known
from ommatidia.data.curation.record import Record

PROMPTS: dict[str, str] = {
    "phrase": "Answer the question using a single word or phrase.",
    "number": "Answer the question using a single number or phrase.",
    "option": "Answer with the option's letter from the given choices directly.",
    "short": "Give the short answer directly.",
    "no_answer": "When the provided information is insufficient, respond with '<no answer>'.",
    "html": "Directly provide the HTML code.",
    "reasoning": "First show your reasoning process and then give the final answer.",
    "unanswerable": "When the provided information is insufficient, respond with 'Unanswerable'.",
    "letter": "Answer with the letter.",
}
"""Cambrian-1's sentences by a name of ours; the wording of ``no_answer`` follows ``unanswerable``."""

_LETTERS = ("option", "letter")

CAMBRIAN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "sketchyvqa", "oodvqa", "dvqa", "ai2d", "clevr", "tallyqa", "pathvqa", "hitab", "wtq", "wikisql", "raven",
        ),
        ("phrase",),
    ),
    "vizwiz": ("unanswerable", "phrase"), "q_instruct": ("phrase", "option"), "chartqa": ("number",),
    "docvqa": ("short",), "screenqa": ("no_answer", "phrase"), "mathinstruct": ("reasoning",), "design2code": ("html",),
    "iconqa": ("phrase", "letter"), "inter_gps": ("letter",), "tqa": ("letter",), "visual7w": ("option",),
}  # fmt: skip
"""Which sources get which sentences. Two sentences of which one is about letters divide the source by its answers; the
study does not say how it divided them. Two others stand one after another."""

_ONE_LETTER = re.compile(r"\(?[A-Za-z]\)?[.:]?")


class FormatPrompts(Operation):
    """A sentence behind each question of short-answer sources that says what form the answer has."""

    kind: Literal["format_prompts"] = "format_prompts"
    sources: dict[str, tuple[str, ...]] = Field(default_factory=lambda: dict(CAMBRIAN))
    """Source -> names of sentences. Names of sources are compared without case and punctuation."""
    prompts: dict[str, str] = Field(default_factory=lambda: dict(PROMPTS))
    others: Annotated[int, Field(ge=1)] | None = None
    """In sources without a rule: an answer of at most so many words gets ``phrase``, where no answer of its record is
    longer; None: they stay as they are."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for source, names in self.sources.items():
            for name in names:
                if name not in self.prompts:
                    raise ConfigError(f"sources.{source}: {unknown('prompt', name, self.prompts)}")
        if self.others is not None and "phrase" not in self.prompts:
            raise ConfigError("others: needs the prompt 'phrase'")
        return self

    def check_names(self, sources: Collection[str], categories: Collection[str]) -> None:
        if self.sources == CAMBRIAN:  # a table for whoever has some of its sources
            return
        present = {_plain(source): source for source in sources}
        known = {source for source in self.sources if _plain(source) in present}
        check_known("format_prompts.sources", "source", self.sources, known | set(sources))

    def refusal(self, source: str, layout: Layout) -> str:
        if layout == "dialogue" or _plain(source) not in map(_plain, self.sources):
            return ""
        return f"a {layout} has no question to put a sentence behind; leave the source out of format_prompts.sources"

    def start(self, place: Place) -> Step:
        return _Wording(self)


class _Wording(Step):
    def __init__(self, operation: FormatPrompts) -> None:
        self._operation = operation
        self._rules = {_plain(source): names for source, names in operation.sources.items()}

    def decide(self, record: Record) -> Verdict:
        names = self._rules.get(_plain(record.source), ())
        most = self._operation.others
        if not names and most is not None and all(len(answer.split()) <= most for answer in record.answers()):
            names = ("phrase",)
        if not names:
            return Verdict(record)
        changed = record.asking(lambda question, answer: self._asked(question, answer, names), why="format_prompts")
        return Verdict(changed, "" if changed is record else f"asked for the form: {', '.join(names)}")

    def _asked(self, question: str, answer: str, names: tuple[str, ...]) -> str:
        letters = [name for name in names if name in _LETTERS]
        if letters and len(letters) < len(names):
            about_letters = _ONE_LETTER.fullmatch(answer) is not None
            names = tuple(name for name in names if (name in _LETTERS) == about_letters)
        said = "\n".join(self._operation.prompts[name] for name in names)
        # A question that asks for a form already is left alone: doing it twice is doing it once.
        # Images alone, as pairs have them, ask nothing.
        if not question.replace(PLACEHOLDER, "").strip():
            return question
        asks = any(question.rstrip().endswith(prompt) for prompt in self._operation.prompts.values())
        return question if asks else f"{question.rstrip()}\n{said}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
