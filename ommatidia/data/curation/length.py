"""Length: records whose words are too few or too many."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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

    def start(self, place: Place) -> Step:
        return _Measuring(self)

    def fault(self, record: Record) -> str:
        """What is wrong with its length; empty: nothing."""
        messages, _ = record.dialogue()
        for role, what, least, most in (
            ("user", "question", self.question_least, self.question_most),
            ("assistant", "answer", self.answer_least, self.answer_most),
        ):
            counts = [len(message.text.split()) for message in messages if message.role == role]
            if least is not None and (not counts or min(counts) < least):
                return f"{what} of fewer than {least} words"
            if most is not None and counts and max(counts) > most:
                return f"{what} of more than {most} words"
        if self.words_most is not None and len(record.text().split()) > self.words_most:
            return f"more than {self.words_most} words"
        turns = sum(message.role == "assistant" for message in messages)
        return f"more than {self.turns_most} answers" if self.turns_most and turns > self.turns_most else ""


class _Measuring(Step):
    def __init__(self, operation: Length) -> None:
        self._operation = operation

    def decide(self, record: Record) -> Verdict:
        fault = self._operation.fault(record)
        return Verdict(None, fault) if fault else Verdict(record)
