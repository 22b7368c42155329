"""Decontaminate: records that hold an image or a question of an evaluation set (Cambrian-1, section 6.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import model_validator

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Message, Picture, Sample
from ommatidia.data.curation.format_sentences import bare_question
from ommatidia.data.curation.image_index import ImageIndex
from ommatidia.data.curation.llava_layout import Layout
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict
from ommatidia.data.curation.record import Record


class Decontaminate(Operation):
    """Without records that share an image, a question, or both at once, with an evaluation set."""

    kind: Literal["decontaminate"] = "decontaminate"
    against: tuple[SourceConfig, ...] = ()
    """Evaluation sets as sources."""
    benchmarks: tuple[str, ...] = ()
    """And as names of ``omma ls benchmarks``."""
    by: Literal["picture", "question", "either", "both"] = "picture"
    """``question``: what any user turn asks, without case, punctuation, white space and format sentences."""
    pictures: Literal["bytes", "appearance"] = "bytes"
    """Equal files; or copies by appearance too, whose error rates docs/curation.md has."""
    sentences: tuple[str, ...] = ()
    """Format sentences of your own beside the usual ones, such as those given to ``format_prompts``."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.against and not self.benchmarks:
            raise ConfigError("name an evaluation set in against or benchmarks")
        return self

    @property
    def looks(self) -> bool:
        return self.by != "question"

    def refusal(self, source: str, layout: Layout) -> str:
        if self.by == "picture" or layout == "dialogue":
            return ""
        return f"by {self.by!r}: a {layout} has no question; decontaminate it by: image, in a curation of its own"

    def benchmarks_read(self) -> tuple[str, ...]:
        return self.benchmarks

    def fingerprint(self) -> str:
        return digest([self.hashed_without_places(), [source.fingerprint() for source in self.against]])

    def start(self, place: Place) -> Step:
        return _Guarding(self, place)


class _Guarding(Step):
    """Holds a digest for each image and question of the evaluation sets, and an index of the images' appearance."""

    def __init__(self, operation: Decontaminate, place: Place) -> None:
        self._operation = operation
        self._digests: set[str] = set()
        self._index = ImageIndex(place.scratch) if operation.pictures == "appearance" and operation.looks else None
        self._last: tuple[str, bool] | None = None
        self._questions: set[str] = set()
        for sample in self._samples(place):
            if operation.looks:
                for picture in sample.images:
                    self._hold(picture)
            if operation.by != "picture":
                self._questions.update(self._asked(sample.messages))

    def _samples(self, place: Place) -> Iterator[Sample]:
        for config in self._operation.against:
            source = config.open()
            yield from (source[index] for index in range(len(source)))
        for name in self._operation.benchmarks:
            yield from place.samples_of(name)

    def _hold(self, picture: Picture) -> None:
        digest = picture.digest
        if digest in self._digests:  # an image is decoded once, however many questions it has
            return
        self._digests.add(digest)
        if self._index is not None:
            self._index.add(picture.open())

    def _holds(self, picture: Picture) -> bool:
        digest = picture.digest
        if digest in self._digests or self._index is None:
            return digest in self._digests
        if self._last is None or self._last[0] != digest:  # questions about one image stand together
            self._last = digest, self._index.holds(picture.open())
        return self._last[1]

    def _asked(self, messages: tuple[Message, ...]) -> Iterator[str]:
        for message in messages:
            if message.role == "user" and (question := bare_question(message.text, self._operation.sentences)):
                yield question

    def decide(self, record: Record) -> Verdict:
        by, (messages, pictures) = self._operation.by, record.dialogue()
        asked = by != "picture" and any(question in self._questions for question in self._asked(messages))
        if by == "question" or (by == "both" and not asked):
            return Verdict(None, "a question of an evaluation set") if by == "question" and asked else Verdict(record)
        try:
            seen = any(self._holds(picture) for picture in pictures)
        except DataError as error:
            raise error.at(source=record.file, sample=record.id) from None
        if by == "both":
            return Verdict(None, "image and question of an evaluation set") if seen else Verdict(record)
        if seen:
            return Verdict(None, "an image of an evaluation set")
        return Verdict(None, "a question of an evaluation set") if asked else Verdict(record)
