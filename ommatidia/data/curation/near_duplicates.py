"""Near duplicates: records whose questions and answers are nearly those of an earlier one, by MinHash.

The likeness of two records is the share of their word triples that they have in common (Jaccard). 256 minima of hashes
of the triples estimate it to about 0.03, and bands of them find the earlier records worth comparing (Broder 1997;
Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3). A band remembers the first eight records alone,
so that the time stays linear where thousands of records share a template.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ommatidia.data.curation.duplicates import picture_digests, scratch_table
from ommatidia.data.curation.llava_layout import Layout
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict
from ommatidia.data.curation.record import Record

_MINIMA = 256
_FULL = 8
"""Records that one band remembers."""
_RECALL = 0.99
"""Chance that two records exactly as alike as wanted share a band."""
_EACH = "\u3040-\u30ff\u3400-\u9fff"
"""Characters that are words by themselves: scripts without spaces."""
_WORD = re.compile(f"[{_EACH}]|[^\\W{_EACH}]+")
_PRIME = np.uint64(2**32 - 5)
_RANDOM = np.random.RandomState(20240616)
_FACTORS = _RANDOM.randint(1, 2**31 - 1, _MINIMA).astype(np.uint64)
_OFFSETS = _RANDOM.randint(0, 2**31 - 1, _MINIMA).astype(np.uint64)


class NearDuplicates(Operation):
    """Of records with nearly the same words, and by default the same images, the first stays."""

    kind: Literal["near_duplicates"] = "near_duplicates"
    likeness: Annotated[float, Field(ge=0.6, le=1)] = 0.8
    """Share of word triples in common from which two texts are the same. Below 0.6 the bands would miss too many."""
    of: Literal["dialogue", "questions", "answers"] = "dialogue"
    same_pictures: bool = True
    """Whether only records with the same images are compared; those without an image, or without a word, stay."""

    @property
    def rows(self) -> int:
        """Minima in a band: as many as still find records exactly as alike as wanted."""
        found = (n for n in range(16, 4, -1) if 1 - (1 - self.likeness**n) ** (_MINIMA // n) >= _RECALL)
        return next(found, 4)

    @property
    def looks(self) -> bool:
        return self.same_pictures

    def refusal(self, source: str, layout: Layout) -> str:
        if self.of == "dialogue" or layout == "dialogue" or (layout == "pair" and self.of == "answers"):
            return ""
        return f"a {layout} has no {self.of}; compare it with of: dialogue, in a curation of its own"

    def start(self, place: Place) -> Step:
        return _Comparing(self, place)


class _Comparing(Step):
    def __init__(self, operation: NearDuplicates, place: Place) -> None:
        self._operation = operation
        self._base = scratch_table(place.scratch / "near.sqlite")
        self._base.execute("CREATE TABLE signature (number INTEGER PRIMARY KEY, minima BLOB)")
        self._base.execute("CREATE TABLE band (key BLOB, number INTEGER, PRIMARY KEY (key, number)) WITHOUT ROWID")
        self._count = 0

    def decide(self, record: Record) -> Verdict:
        beside = "/".join(picture_digests(record)) if self._operation.same_pictures else ""
        if self._operation.same_pictures and not beside:
            return Verdict(record)
        turns = self._turns(record)
        if not any(_WORD.search(turn) for turn in turns):
            return Verdict(record)
        minima = minhash(turns)
        keys = band_keys(minima, beside, rows=self._operation.rows)
        marks = ",".join("?" * len(keys))
        found = self._base.execute(
            f"SELECT key, minima FROM band JOIN signature USING (number) WHERE key IN ({marks})", keys
        )
        counts: Counter[bytes] = Counter()
        held: set[bytes] = set()
        for key, earlier in found:
            counts[key] += 1
            held.add(earlier)
        if held:
            table = np.frombuffer(b"".join(held), np.uint32).reshape(-1, _MINIMA)
            if (table == minima).mean(1).max() >= self._operation.likeness:
                return Verdict(None, f"{self._operation.of} nearly the same as before")
        self._base.execute("INSERT INTO signature VALUES (?, ?)", (self._count, minima.tobytes()))
        free = [(key, self._count) for key in keys if counts[key] < _FULL]
        self._base.executemany("INSERT OR IGNORE INTO band VALUES (?, ?)", free)
        self._count += 1
        return Verdict(record)

    def _turns(self, record: Record) -> list[str]:
        """What is asked and answered; a system prompt is neither."""
        roles = {"questions": ("user",), "answers": ("assistant",)}.get(self._operation.of)
        messages = record.dialogue()[0]
        return [m.text for m in messages if (m.role != "system" if roles is None else m.role in roles)]


def minhash(turns: Iterable[str]) -> NDArray[np.uint32]:
    """The 256 minima of a dialogue.

    Case, white space and punctuation do not count. A triple lies within one turn; a turn below three words is one
    triple. A character of a script without spaces is a word.
    """
    triples = {triple for turn in turns for triple in _triples(turn)} or {""}
    hashes = np.array([zlib.crc32(triple.encode(errors="replace")) for triple in triples], np.uint64)
    return ((hashes[:, None] * _FACTORS + _OFFSETS) % _PRIME).min(0).astype(np.uint32)


def _triples(turn: str) -> set[str]:
    words = _WORD.findall(turn.lower())
    return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set()


def likeness(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Estimated share of word triples in common."""
    return float((one == other).mean())


def band_keys(minima: NDArray[np.uint32], beside: str, *, rows: int) -> list[bytes]:
    """A key for each band of ``rows`` minima, and one for all of them, by which the same words are always found."""
    bands = [minima[start : start + rows] for start in range(0, _MINIMA - rows + 1, rows)]
    return [
        hashlib.blake2b(f"{beside}/{n}/".encode() + band.tobytes(), digest_size=8).digest()
        for n, band in enumerate([*bands, minima])
    ]
