"""Check: every problem of every record of a source, and what a source holds. Nothing is trained, nothing is skipped.

Records are looked at by threads, a bounded number ahead, and told in their order; of a record no more is kept than
eight bytes of its id.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ommatidia.core.errors import DataError
from ommatidia.core.picture import BytesPicture, FilePicture, SpanPicture, lost_colours
from ommatidia.core.source import Inspection, Looked
from ommatidia.core.types import Picture, Sample
from ommatidia.data.conversation import PLACEHOLDER, literal_marks, out_of_order

Measure = Callable[[Sample], int]
"""From a sample to its tokens, visual ones included. Raises DataError."""

_CHUNK = 16
_AHEAD = 4
"""Chunks a thread that may be looked at before they are told."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one record, or with a source as a whole."""

    source: str
    place: str
    """The line or record; empty: the whole source."""
    id: str
    kind: str
    cause: str

    def __str__(self) -> str:
        named = f" {self.id!r}" if self.id else ""
        return ": ".join(part for part in (self.source, f"{self.place}{named}", f"[{self.kind}] {self.cause}") if part)

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def each(inspection: Inspection, do: Callable[[Looked], T], *, threads: int) -> Iterator[tuple[Looked, T]]:
    """Every record in order, with what ``do`` makes of it in one of the threads."""

    def chunk(first: int) -> list[tuple[Looked, T]]:
        looked = [inspection.look(index) for index in range(first, min(first + _CHUNK, len(inspection)))]
        return [(one, do(one)) for one in looked]

    with ThreadPoolExecutor(threads, thread_name_prefix="check") as pool:
        pending: deque[Any] = deque()
        try:
            for first in range(0, len(inspection), _CHUNK):
                pending.append(pool.submit(chunk, first))
                if len(pending) > _AHEAD * threads:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def problems(
    name: str,
    inspection: Inspection,
    *,
    threads: int = 4,
    measure: Measure | None = None,
    longest: int | None = None,
    seen: Callable[[Looked], None] = lambda looked: None,
) -> Iterator[Problem]:
    """Everything that is wrong, record by record; ids that occur twice come last.

    ``measure`` and ``longest`` tell how long a sample is and may be; ``seen`` is called for every record.
    """

    def of(error: DataError, place: str = "", id: str | None = None) -> Problem:
        return Problem(name, place, id or "", error.kind, error.cause)

    def find(looked: Looked) -> list[DataError]:
        found = [*looked.faults, *_in_dialogue(looked), *_in_pictures(looked.images)]
        if not found and measure is not None and longest is not None:
            found += _in_length(looked, measure, longest)
        return found

    yield from (of(error) for error in inspection.faults)
    keys = array("Q")
    named = array("Q")
    for index, (looked, found) in enumerate(each(inspection, find, threads=threads)):
        seen(looked)
        yield from (of(error, looked.place, looked.id) for error in found)
        if looked.id is not None:
            keys.append(int.from_bytes(hashlib.sha256(looked.id.encode(errors="surrogatepass")).digest()[:8], "big"))
            named.append(index)
    for index, first in _repeated(np.frombuffer(keys, np.uint64), np.frombuffer(named, np.uint64)):
        looked, before = inspection.look(index), inspection.look(first)
        cause = f"the id of {before.place} as well"
        yield of(DataError(cause, kind="duplicate id"), looked.place, looked.id)


def _repeated(keys: Any, rows: Any) -> list[tuple[int, int]]:
    """(row, the first row with the same key) for every row whose key came before."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
    found, first = [], 0
    for place in same.tolist():
        if keys[order[place]] != keys[order[first]] or first >= place:
            first = place - 1
        found.append((int(rows[order[place]]), int(rows[order[first]])))
    return sorted(found)


def _in_dialogue(looked: Looked) -> list[DataError]:
    """Turns out of order and answers without words, as far as the turns could be read."""
    messages = looked.messages
    found: list[DataError] = []
    if not messages or messages[0].role == "document":
        return found
    for number, message in enumerate(messages):
        if message.role == "assistant" and not message.text.strip():
            found.append(DataError(f"turn {number + 1}: an answer without words", kind="empty answer"))
        if message.role == "assistant":
            found += _marks_of_an_answer(message.text, number + 1)
    if any(error.kind in ("layout", "roles", "field") for error in looked.faults):
        return found
    if wrong := out_of_order([message.role for message in messages]):
        return found + wrong
    if messages[-1].role != "assistant":
        found.append(DataError("the last turn is the user's; expected an answer", kind="no answer"))
    return found


def _marks_of_an_answer(text: str, turn: int) -> list[DataError]:
    """Marks are learned as the text that they are: an answer may speak of <image>, and seldom means to."""
    marks = [DataError(f"{PLACEHOLDER} stays in the text", kind="mark")] if PLACEHOLDER in text else []
    return [DataError(f"turn {turn}, an answer: {one.cause}", kind="mark") for one in (*marks, *literal_marks(text))]


def _in_pictures(pictures: tuple[Picture, ...]) -> list[DataError]:
    found = []
    for picture in pictures:
        try:
            image = picture.open()
            found += _without_colours(picture, image)
        except DataError as error:
            found.append(error if error.kind != "unusable" else DataError(error.cause, kind="broken image"))
    return found


def _without_colours(picture: Picture, image: Image.Image) -> list[DataError]:
    """An image of one colour that had more before it was decoded."""
    bands: Any = image.getextrema()  # of an RGB image: a pair for each band
    if any(low != high for low, high in bands):
        return []
    if isinstance(picture, FilePicture):
        data, name = picture.path.read_bytes(), str(picture.path)
    elif isinstance(picture, SpanPicture):
        data, name = picture.data(), picture.name
    elif isinstance(picture, BytesPicture):
        data, name = picture.data, picture.name
    else:
        return []
    why = lost_colours(data, name=name)
    return [] if why is None else [DataError(f"{name}: one colour after decoding; {why}", kind="one colour")]


def _in_length(looked: Looked, measure: Measure, longest: int) -> list[DataError]:
    try:
        length = measure(Sample(looked.id or looked.place, looked.messages, looked.images))
    except DataError as error:
        return [error]
    return [DataError(f"{length} tokens; {longest} fit", kind="too long")] if length > longest else []
