"""Records of a JSON list or of a file with one record a line, found by their byte spans and read one at a time."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ommatidia.core.errors import DataError
from ommatidia.core.files import file_digest
from ommatidia.core.json_text import parse_json
from ommatidia.core.source import Looked
from ommatidia.core.types import Message, Picture

Spans = tuple["array[int]", "array[int]"]
"""Where each record starts and ends, in bytes."""

_WINDOW = 2**22
"""Bytes of a JSON list that are looked at together; more where one record is larger."""

_WHITE = " \t\r\n,"
_MARK = b"\xef\xbb\xbf"


def index(path: Path) -> Spans:
    """Byte spans of a file's records. Raises DataError: no such file, a list that is no JSON (with the line)."""
    return _index(path, file_digest(path))


def inspect(path: Path) -> tuple[Spans, array[int], DataError | None]:
    """Spans of the records up to where a list breaks off, the line each starts on, and what is wrong there."""
    file_digest(path)
    with path.open("rb") as file:
        spans = array("Q"), array("Q")
        broken = None
        try:
            _fill(file, path, spans)
        except DataError as error:
            broken = error
        file.seek(0)
        return spans, _lines(file, spans[0]), broken


def read(path: Path, start: int, end: int, *, row: int) -> dict[str, Any]:
    """The record in these bytes; ``row`` counts from 0. Raises DataError."""
    with path.open("rb") as file:
        file.seek(start)
        return parse(file.read(end - start), path, row)


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """Every record of a file with its number from 1, as it is written; what is wrong with it where it is broken.

    Raises DataError for a file that cannot be read. The file is never held as a whole.
    """
    starts, ends = index(path)
    with path.open("rb") as file:
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            file.seek(start)
            try:
                yield row + 1, parse(file.read(end - start), path, row)
            except DataError as error:
                yield row + 1, error


def parse(data: bytes, path: Path, row: int) -> dict[str, Any]:
    """The record that these bytes are; ``path`` and ``row`` are for errors. Raises DataError."""
    try:
        record = parse_json(data)
    except ValueError as error:
        raise DataError(str(error), source=str(path), sample=f"record {row + 1}", kind="not JSON") from None
    if not isinstance(record, dict):
        cause = f"is {type(record).__name__}; expected an object"
        raise DataError(cause, source=str(path), sample=f"record {row + 1}", kind="layout")
    return record


@lru_cache(maxsize=16)
def _index(path: Path, content: str) -> Spans:
    """Byte spans of the records of a file with this content digest."""
    spans = array("Q"), array("Q")
    with path.open("rb") as file:
        _fill(file, path, spans)
    return spans


def _fill(file: BinaryIO, path: Path, spans: Spans) -> None:
    head = file.read(4096).removeprefix(_MARK).lstrip()
    file.seek(0)
    if head.startswith(b"["):
        _index_list(file, path, spans)
    else:
        _index_lines(file, spans)


def _index_lines(file: BinaryIO, spans: Spans) -> None:
    at = 0
    for line in file:
        mark = len(_MARK) if at == 0 and line.startswith(_MARK) else 0
        if line.strip():
            spans[0].append(at + mark)
            spans[1].append(at + len(line))
        at += len(line)


def _index_list(file: BinaryIO, path: Path, spans: Spans) -> None:
    """Spans of the elements of one JSON list.

    Decoded as Latin-1 a character is a byte, and JSON's structure, all ASCII, reads the same: so spans come out in
    bytes.
    """
    decoder = json.JSONDecoder()
    text = file.read(_WINDOW).decode("latin-1")
    before, lines, at = 0, 0, text.index("[") + 1
    while True:
        while at < len(text) and text[at] in _WHITE:
            at += 1
        if at < len(text) and text[at] == "]":
            _need_end(file, path, text[at + 1 :], lines + text.count("\n", 0, at) + 1)
            return
        try:
            _, end = decoder.raw_decode(text, at)
            # What ends with the window may go on behind it: a record that is no object but a number.
            error = None if end < len(text) else ("Expecting ',' delimiter", lines + text.count("\n") + 1)
        except json.JSONDecodeError as caught:
            end, error = at, (caught.msg, lines + caught.lineno)
        except (RecursionError, ValueError) as caught:
            what = "nested too deeply" if isinstance(caught, RecursionError) else "a number of more than 4,300 digits"
            cause = f"line {lines + text.count(chr(10), 0, at) + 1}: not valid JSON ({what})"
            raise DataError(cause, source=str(path), kind="not JSON") from None
        if error is None:
            spans[0].append(before + at)
            spans[1].append(before + end)
            at = end
        elif more := file.read(max(_WINDOW, len(text) - at)).decode("latin-1"):
            before, lines, text, at = before + at, lines + text.count("\n", 0, at), text[at:] + more, 0
        else:
            cause = f"line {error[1]}: not valid JSON ({error[0]})"
            raise DataError(cause, source=str(path), kind="not JSON")


def _need_end(file: BinaryIO, path: Path, text: str, line: int) -> None:
    """Raise DataError for anything but white space behind a list; ``text`` is what was read of it so far."""
    while text:
        rest = text.lstrip(" \t\r\n")
        line += text.count("\n", 0, len(text) - len(rest))
        if rest:
            cause = f"line {line}: {rest[:20].encode('latin-1')!r} behind the end of the list; expected one list"
            raise DataError(f"{cause}, or one record a line", source=str(path), kind="not JSON")
        text = file.read(_WINDOW).decode("latin-1")


def _lines(file: BinaryIO, starts: array[int]) -> array[int]:
    """The line, from 1, that each of these ascending byte positions is on."""
    lines, at, line = array("Q"), 0, 1
    for start in starts:
        while at < start:
            data = file.read(min(_WINDOW, start - at))
            at += len(data)
            line += data.count(b"\n")
        lines.append(line)
    return lines


def no_records(path: Path) -> DataError:
    """What is wrong with a file without a record."""
    return DataError("no records; expected a JSON list or one record a line", source=str(path), kind="no records")


def own_id(record: Mapping[str, Any]) -> str | None:
    """The id that a record gives itself; None where it has none, or one that says nothing: null, or no characters."""
    value = record.get("id")
    name = "" if value is None else str(value)
    return name if name.strip() else None


def json_fields(row: Mapping[str, Any], used: Collection[str]) -> dict[str, Any]:
    """The fields of a row that are not ``used``, as plain JSON: times and decimals as text.

    What JSON cannot hold, the bytes of another column's images, is left out.
    """
    found = {}
    for name, value in row.items():
        if name in used or value is None:
            continue
        value = str(value) if isinstance(value, date | time | Decimal) else value
        try:
            found[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            continue
    return found


Examined = tuple[tuple[Message, ...], tuple[Picture, ...], list[DataError]]
"""Messages, images, and everything that is wrong with a record."""


class JSONInspection:
    """Records of one file as they lie there, broken ones among them; ``examine`` says what a record holds."""

    def __init__(
        self,
        path: Path,
        examine: Callable[[dict[str, Any]], Examined],
        *,
        unread: Callable[[dict[str, Any]], Sequence[str]] = lambda record: (),
    ) -> None:
        self._path, self._examine, self._unread = path, examine, unread
        (self._starts, self._ends), self._lines, broken = inspect(path)
        if broken is None and len(self) == 0:
            broken = no_records(path)
        self.faults = () if broken is None else (broken,)

    def __len__(self) -> int:
        return len(self._starts)

    def look(self, index: int) -> Looked:
        place = self._place(index)
        try:
            record = read(self._path, self._starts[index], self._ends[index], row=index)
        except DataError as error:
            return Looked(place, faults=[error])
        return Looked(place, own_id(record), *self._examine(record), unread=tuple(self._unread(record)))

    def _place(self, index: int) -> str:
        """The record's line; its number in a list that has several records on the line."""
        line, last = self._lines[index], len(self) - 1
        alone = (index == 0 or self._lines[index - 1] != line) and (index == last or self._lines[index + 1] != line)
        return f"line {line}" if alone else f"record {index + 1}"
