"""Decontaminate: records that hold a picture or a question of an evaluation set (Cambrian-1, section 6.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, Self

import numpy as np
from PIL import Image
from pydantic import model_validator

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Picture, Sample
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict
from ommatidia.data.curation.record import Record

_TELLING = range(4, 61)
"""Bits set in a hash that tells pictures apart; flat pictures all have the same."""


class Decontaminate(Operation):
    """Without records that share a picture, a question, or both at once, with an evaluation set."""

    kind: Literal["decontaminate"] = "decontaminate"
    against: tuple[SourceConfig, ...] = ()
    """Evaluation sets as sources."""
    benchmarks: tuple[str, ...] = ()
    """And as names of ``omma ls benchmarks``."""
    by: Literal["picture", "question", "either", "both"] = "picture"
    """``question``: the words of any user turn, without case, punctuation and white space."""
    pictures: Literal["bytes", "dhash"] = "bytes"
    """Equal files, or equal difference hashes of 64 bits, which survive resizing and another compression."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.against and not self.benchmarks:
            raise ConfigError("name an evaluation set in against or benchmarks")
        return self

    @property
    def looks(self) -> bool:
        return self.by != "question"

    def benchmarks_read(self) -> tuple[str, ...]:
        return self.benchmarks

    def fingerprint(self) -> str:
        return digest([self.hashed_without_places(), [source.fingerprint() for source in self.against]])

    def start(self, place: Place) -> Step:
        return _Guarding(self, place)


class _Guarding(Step):
    """Holds a digest for each picture and question of the evaluation sets."""

    def __init__(self, operation: Decontaminate, place: Place) -> None:
        self._operation = operation
        self._pictures: set[str] = set()
        self._questions: set[str] = set()
        known: set[str] = set()
        for sample in self._samples(place):
            if operation.by != "question":
                for picture in sample.images:
                    if picture.digest not in known:  # a picture is decoded once, however many questions it has
                        known.add(picture.digest)
                        self._pictures.update(self._keys(picture))
            self._questions.update(
                question for m in sample.messages if m.role == "user" and (question := plain(m.text))
            )

    def _samples(self, place: Place) -> Iterator[Sample]:
        for config in self._operation.against:
            source = config.open()
            yield from (source[index] for index in range(len(source)))
        for name in self._operation.benchmarks:
            yield from place.samples_of(name)

    def _keys(self, picture: Picture) -> list[str]:
        if self._operation.pictures == "bytes":
            return [picture.digest]
        bits = difference_hash(picture.open())
        return [f"{bits:016x}" if bits.bit_count() in _TELLING else picture.digest]

    def decide(self, record: Record) -> Verdict:
        by, messages, pictures = self._operation.by, *record.dialogue()
        asked = by != "picture" and any(plain(m.text) in self._questions for m in messages if m.role == "user")
        if by == "question" or (by == "both" and not asked):
            return Verdict(None, "a question of an evaluation set") if by == "question" and asked else Verdict(record)
        try:
            seen = any(key in self._pictures for picture in pictures for key in self._keys(picture))
        except DataError as error:
            raise error.at(source=record.file, sample=record.id) from None
        if by == "both":
            return Verdict(None, "picture and question of an evaluation set") if seen else Verdict(record)
        if seen:
            return Verdict(None, "a picture of an evaluation set")
        return Verdict(None, "a question of an evaluation set") if asked else Verdict(record)


def plain(text: str) -> str:
    """A question to compare: lower case, words alone."""
    return " ".join(re.findall(r"\w+", text.lower()))


def difference_hash(image: Image.Image) -> int:
    """64 bits: whether each pixel of a 9 x 8 gray copy is brighter than the one to its right."""
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR), np.int16)
    return int.from_bytes(np.packbits(gray[:, :-1] > gray[:, 1:]).tobytes(), "big")
