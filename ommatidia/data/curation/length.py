"""Length: records whose words are too few or too many."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ommatidia.core.types import ImagePart, Message
from ommatidia.data.curation.llava_layout import Layout
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict
from ommatidia.data.curation.record import Record

_Words = Annotated[int, Field(ge=0)] | None


class Length(Operation):
    """Only records whose questions, answers and turns have so many words, between white space; None: no limit."""

    kind: Literal["length"] = "length"
    question_least: _Words = 1
    question_most: _Words = None
    answer_least: _Words = 1
    answer_most: _Words = None
    words_most: _Words = None
    """Of the whole dialogue."""
    turns_most: Annotated[int, Field(ge=1)] | None = None
    """Answers of one record."""

    def refusal(self, source: str, layout: Layout) -> str:
        least, most = (self.question_least, self.answer_least), (self.question_most, self.answer_most, self.turns_most)
        if layout == "pair":
            least, most = (self.question_least, 0), (self.question_most, None, None)
        if layout == "dialogue" or (max(n or 0 for n in least) <= 1 and not any(most)):
            return ""
        what = "questions" if layout == "pair" else "questions and answers"
        return f"a {layout} has no {what} to count the words of; use words_most, in a curation of its own"

    def start(self, place: Place) -> Step:
        return _Measuring(self)

    def fault(self, record: Record) -> str:
        """What is wrong with its length; empty: nothing."""
        messages, _ = record.dialogue()
        for role, what, least, most in (
            ("user", "question", self.question_least, self.question_most),
            ("assistant", "answer", self.answer_least, self.answer_most),
        ):
            if record.document:
                break
            # Images alone, as pairs have them, ask nothing.
            said = [m for m in messages if m.role == role and not (role == "user" and _only_images(m))]
            counts = [len(message.text.split()) for message in said]
            if not said and any(message.role == role for message in messages):
                continue
            if least is not None and (not counts or min(counts) < least):
                return f"{what} of fewer than {least} words"
            if most is not None and counts and max(counts) > most:
                return f"{what} of more than {most} words"
        if self.words_most is not None and len(record.text().split()) > self.words_most:
            return f"more than {self.words_most} words"
        turns = sum(message.role == "assistant" for message in messages)
        return f"more than {self.turns_most} answers" if self.turns_most and turns > self.turns_most else ""


def _only_images(message: Message) -> bool:
    return not message.text.strip() and any(isinstance(part, ImagePart) for part in message.parts)


class _Measuring(Step):
    def __init__(self, operation: Length) -> None:
        self._operation = operation

    def decide(self, record: Record) -> Verdict:
        fault = self._operation.fault(record)
        return Verdict(None, fault) if fault else Verdict(record)
