"""Near duplicates: records whose words are nearly those of an earlier one, by MinHash.

The likeness of two texts is the share of their word triples that they have in common (Jaccard). 128 minima of hashes of
the triples estimate it to about 0.04, and bands of four of them find the earlier records worth comparing (Broder 1997;
Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3).
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ommatidia.data.curation.duplicates import picture_digests, scratch_table
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict
from ommatidia.data.curation.record import Record

_BANDS, _ROWS = 32, 4
_PRIME = np.uint64(2**32 - 5)
_RANDOM = np.random.RandomState(20240616)
_FACTORS = _RANDOM.randint(1, 2**31 - 1, _BANDS * _ROWS).astype(np.uint64)
_OFFSETS = _RANDOM.randint(0, 2**31 - 1, _BANDS * _ROWS).astype(np.uint64)


class NearDuplicates(Operation):
    """Of records with nearly the same words, and by default the same pictures, the first stays."""

    kind: Literal["near_duplicates"] = "near_duplicates"
    likeness: Annotated[float, Field(ge=0.6, le=1)] = 0.8
    """Share of word triples in common from which two texts are the same. Below 0.6 the bands would miss too many."""
    of: Literal["dialogue", "questions", "answers"] = "dialogue"
    same_pictures: bool = True
    """Whether only records with the same pictures are compared."""

    @property
    def looks(self) -> bool:
        return self.same_pictures

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
        minima = minhash(record.text(of=self._operation.of))
        beside = "/".join(picture_digests(record)) if self._operation.same_pictures else ""
        keys = _bands(minima, beside)
        marks = ",".join("?" * len(keys))
        found = self._base.execute(
            f"SELECT DISTINCT minima FROM band JOIN signature USING (number) WHERE key IN ({marks})", keys
        )
        for (held,) in found:
            if likeness(minima, np.frombuffer(held, np.uint32)) >= self._operation.likeness:
                return Verdict(None, f"{self._operation.of} nearly the same as before")
        self._base.execute("INSERT INTO signature VALUES (?, ?)", (self._count, minima.tobytes()))
        self._base.executemany("INSERT OR IGNORE INTO band VALUES (?, ?)", [(key, self._count) for key in keys])
        self._count += 1
        return Verdict(record)


def minhash(text: str) -> NDArray[np.uint32]:
    """The 128 minima of a text; case and white space do not count. A text below three words is one shingle."""
    words = text.lower().split()
    shingles = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
    hashes = np.array([zlib.crc32(shingle.encode()) for shingle in shingles], np.uint64)
    return ((hashes[:, None] * _FACTORS + _OFFSETS) % _PRIME).min(0).astype(np.uint32)


def likeness(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Estimated share of word triples in common."""
    return float((one == other).mean())


def _bands(minima: NDArray[np.uint32], beside: str) -> list[bytes]:
    rows = minima.reshape(_BANDS, _ROWS)
    return [
        hashlib.blake2b(f"{beside}/{n}/".encode() + row.tobytes(), digest_size=8).digest() for n, row in enumerate(rows)
    ]
