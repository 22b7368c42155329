"""Outputs of expert models as ordinary prompt text: a source around another, with a file of what experts found.

Prismer (2303.02506) and MoAI (2403.07508) give a model what detectors, text readers and depth estimators say about a
image. As words they need no part of the model, and go with any: the experts run once, beforehand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError
from ommatidia.core.files import file_digest
from ommatidia.core.picture import FilePicture
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import ImagePart, Message, Part, Picture, Sample
from ommatidia.data.verbalise import Wording

Span = tuple[int, int, int]
"""Line number, and the bytes [start, end) of a record."""


class ExpertText(SourceConfig):
    """Another source's samples with what expert models found in each image, said before the question.

    ``records`` has one JSON object a line, with a key (see ``by``) and the findings that ``verbalise`` describes. The
    text stands in the turn that shows the image, on lines of its own, behind the images the turn begins with and
    before its first words; where a sample has several images it begins with ``Picture N: ``.
    """

    kind: Literal["expert_text"] = "expert_text"
    source: SourceConfig
    records: Path
    wording: Wording
    by: Literal["image", "digest", "id"] = "image"
    """What a record is found by, and the name of the field that holds it: the image's file, the digest of the
    image, or the sample's id, which makes one text a sample, in its first user turn."""
    image_root: Path | None = None
    """Folder that the records' image files are relative to; None: the folder of ``records``."""
    missing: Literal["refuse", "skip"] = "refuse"
    """Whether an image without a record is an error, or goes without words."""

    located: ClassVar[frozenset[str]] = frozenset({"records", "image_root"})

    def open(self) -> ExpertTextSource:
        """Raises DataError: what the inner source raises; a line of the records that is no JSON object or has no key;
        a key that comes twice (with both lines)."""
        return ExpertTextSource(self)

    def reads(self) -> Contents:
        """What the inner source reads, and the records.

        Records that name files find them by where both lie, so that this counts too.
        """
        records = Contents.of_needed({self.records.name: self.records})
        beside = Contents.of([(f"images at {self._way_to_images()}", None, None)] if self.by == "image" else [])
        return Contents.joined([self.source.contents(), records, beside])

    def root(self) -> Path:
        """The folder that the records' image files are relative to."""
        return self.image_root or self.records.parent

    def _way_to_images(self) -> str:
        """From ``root`` to the folder of the first image that is a file; empty where there is none."""
        source = self.source.open()
        for index in range(len(source)):
            try:
                images = source[index].images
            except DataError:
                continue
            for picture in images:
                if isinstance(picture, FilePicture):
                    return os.path.relpath(os.path.abspath(picture.path.parent), os.path.abspath(self.root()))
        return ""

    def absent(self) -> str | None:
        return self.source.absent() or (None if self.records.is_file() else str(self.records))

    def describe(self) -> str:
        return f"{self.source.describe()} + {', '.join(self.wording.experts)} of {self.records.name}"


class ExpertTextSource:
    """The inner source's samples, in its order."""

    def __init__(self, config: ExpertText) -> None:
        self._config = config
        self._inner: Source = config.source.open()
        self._spans = _index(config.records, file_digest(config.records), config.by)
        self._root = config.root()
        if config.by == "image":
            self._spans = {self._path(key): span for key, span in self._spans.items()}

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, index: int) -> Sample:
        sample = self._inner[index]
        try:
            return replace(sample, messages=self._spoken(sample), written=None)
        except DataError as error:
            raise error.at(source=str(self._config.records), sample=sample.id) from None

    def _spoken(self, sample: Sample) -> tuple[Message, ...]:
        texts: dict[int, list[str]] = {}
        if self._config.by == "id":
            turn = next((n for n, message in enumerate(sample.messages) if message.role == "user"), None)
            if turn is not None and (text := self._text(sample.id, f"sample {sample.id!r}", sample.images)):
                texts[turn] = [text]
        else:
            for turn, number in _shown(sample.messages):
                picture = sample.images[number]
                text = self._text(self._key(picture, number), f"picture {number + 1} of the sample", (picture,))
                if text:
                    texts.setdefault(turn, []).append(
                        text if len(sample.images) == 1 else f"Picture {number + 1}: {text}"
                    )
        return tuple(
            Message(message.role, _before_words(message.parts, "\n".join(texts[turn]))) if turn in texts else message
            for turn, message in enumerate(sample.messages)
        )

    def _key(self, picture: Picture, number: int) -> str:
        if self._config.by == "digest":
            return picture.digest
        if not isinstance(picture, FilePicture):
            raise DataError(
                f"picture {number + 1} is no file of its own; write its digest into the records, by: digest"
            )
        return os.path.abspath(picture.path)

    def _path(self, name: str) -> str:
        return os.path.abspath(self._root / name)

    def _text(self, key: str, what: str, pictures: tuple[Picture, ...]) -> str:
        span = self._spans.get(key)
        if span is None:
            if self._config.missing == "skip":
                return ""
            raise DataError(f"no record for {what}: {self._config.by} {key!r}; missing: skip lets it go without words")

        def size() -> tuple[int, int]:
            if len(pictures) != 1:
                raise DataError(f"boxes in pixels of {len(pictures)} pictures; give fractions, or a record a picture")
            return pictures[0].size()

        line, start, end = span
        with self._config.records.open("rb") as file:
            file.seek(start)
            record = json.loads(file.read(end - start))
        try:
            return self._config.wording.text(record, size)
        except DataError as error:
            raise DataError(f"line {line}: {error.cause}") from None


def _shown(messages: tuple[Message, ...]) -> list[tuple[int, int]]:
    """(turn, image) where each image stands first, in reading order."""
    first: dict[int, int] = {}
    for turn, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ImagePart):
                first.setdefault(part.index, turn)
    return [(turn, number) for number, turn in first.items()]


def _before_words(parts: tuple[Part, ...], text: str) -> tuple[Part, ...]:
    """The text on lines of its own behind the images that these parts begin with."""
    lead = 0
    for number, part in enumerate(parts):
        if isinstance(part, ImagePart):
            lead = number + 1
        elif part.strip():
            break
    rest = parts[lead:]
    start = "\n" if lead else ""
    end = "" if rest and isinstance(rest[0], str) and rest[0].startswith("\n") else "\n"
    return (*parts[:lead], f"{start}{text}{end}", *rest)


@lru_cache(maxsize=16)
def _index(path: Path, content: str, by: str) -> Mapping[str, Span]:
    """Where each record of a file with this content digest stands, by its key."""
    spans: dict[str, Span] = {}
    at = 0
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            start, at = at, at + len(data)
            if not data.strip():
                continue
            key = _key_of(data, by, f"{path}, line {line}")
            if key in spans:
                raise DataError(f"lines {spans[key][0]} and {line} are both of {by} {key!r}", source=str(path))
            spans[key] = (line, start, at)
    if not spans:
        raise DataError("no records; expected one JSON object a line", source=str(path))
    return spans


def _key_of(data: bytes, by: str, place: str) -> str:
    try:
        record: Any = json.loads(data)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "not UTF-8"
        raise DataError(f"not valid JSON ({reason})", source=place) from None
    if not isinstance(record, dict):
        raise DataError(f"is {type(record).__name__}; expected an object", source=place)
    key = record.get(by)
    if by == "id" and type(key) is int:
        return str(key)
    if not isinstance(key, str) or not key:
        raise DataError(f"{by!r} is {key!r}; the source wants every record to name its {by}", source=place)
    return os.path.normpath(key) if by == "image" else key
