"""Duplicates: records whose words or images came before, exactly."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ommatidia.core.errors import DataError
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict
from ommatidia.data.curation.record import Record


class Duplicates(Operation):
    """Of records alike, the first ones stay. Images are alike when their files are, byte for byte."""

    kind: Literal["duplicates"] = "duplicates"
    by: Literal["text_and_pictures", "text", "picture"] = "text_and_pictures"
    """``picture``: any one image of the record counts; MM1 drops those seen more than ten times."""
    at_most: Annotated[int, Field(ge=1)] = 1
    """How often the same may come."""

    @property
    def looks(self) -> bool:
        return self.by != "text"

    def start(self, place: Place) -> Step:
        return _Recognising(self, place)


class _Recognising(Step):
    def __init__(self, operation: Duplicates, place: Place) -> None:
        self._operation = operation
        self._seen = Seen(place.scratch / "seen.sqlite")

    def decide(self, record: Record) -> Verdict:
        keys = self._keys(record)
        if any(self._seen.times(key) >= self._operation.at_most for key in keys):
            what = {"text": "words", "picture": "image"}.get(self._operation.by, "words and images")
            again = "before" if self._operation.at_most == 1 else f"{self._operation.at_most} times before"
            return Verdict(None, f"the same {what} came {again}")
        for key in keys:
            self._seen.add(key)
        return Verdict(record)

    def _keys(self, record: Record) -> list[bytes]:
        if self._operation.by == "picture":
            return [bytes.fromhex(digest) for digest in dict.fromkeys(picture_digests(record))]
        text = hashlib.sha256(" ".join(record.text().lower().split()).encode())
        if self._operation.by == "text_and_pictures":
            text.update("/".join(picture_digests(record)).encode())
        return [text.digest()]


def picture_digests(record: Record) -> list[str]:
    """By content. Raises DataError that names the record."""
    try:
        return [picture.digest for picture in record.pictures()]
    except DataError as error:
        raise error.at(source=record.file, sample=record.id) from None


class Seen:
    """How often each key came, in a file: memory stays the same however many there are."""

    def __init__(self, path: Path) -> None:
        self._base = scratch_table(path)
        self._base.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID")

    def times(self, key: bytes) -> int:
        row = self._base.execute("SELECT times FROM seen WHERE key = ?", (key,)).fetchone()
        return row[0] if row else 0

    def add(self, key: bytes) -> None:
        self._base.execute("INSERT INTO seen VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET times = times + 1", (key,))


def scratch_table(path: Path) -> sqlite3.Connection:
    """A table that need not survive a kill: it is made again."""
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("PRAGMA journal_mode = OFF")
    base.execute("PRAGMA synchronous = OFF")
    base.execute("BEGIN")
    return base
