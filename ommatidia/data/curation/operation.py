"""Operation: one thing that curation does to a stream of records, as a value. A kind is one file here.

An operation may look at the stream once before it decides (``surveys``): to know how many there are of each source,
say. It keeps counts, bits or a table on disk, never the records.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.types import Sample
from ommatidia.data.curation.llava_layout import Layout
from ommatidia.data.curation.record import Record


def no_benchmarks(name: str) -> Iterable[Sample]:
    """What stands for the benchmarks where nobody brings any. Raises ConfigError."""
    raise ConfigError(f"benchmark {name!r}: only the command line and the lab know benchmarks; give a source instead")


@dataclass(frozen=True)
class Place:
    """Where an operation works."""

    scratch: Path
    """An empty folder for what does not fit into memory; gone afterwards."""
    seed: int = 0
    samples_of: Callable[[str], Iterable[Sample]] = no_benchmarks
    """The samples of a benchmark by name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one record: kept as it is, changed, or dropped; ``why`` says so in the report."""

    record: Record | None
    why: str = ""


class Step(ABC):
    """An operation at work on one stream."""

    def survey(self, record: Record) -> None:
        """Called for every record before the first decision, where the operation ``surveys``."""
        return

    def settle(self) -> None:
        """Called once after the survey. Raises ConfigError when what is wanted cannot be had."""
        return

    @abstractmethod
    def decide(self, record: Record) -> Verdict:
        """Called for every record in order. Raises DataError for an image that cannot be read."""


class Operation(Config, family=True):
    """One thing done to a stream of records. Equal values do the same to equal streams."""

    surveys: ClassVar[bool] = False

    @property
    def looks(self) -> bool:
        """Whether what it does depends on the records' images, and not on their words alone."""
        return False

    def refusal(self, source: str, layout: Layout) -> str:
        """Why it cannot be done to records of this layout, and what to do instead; empty: it can."""
        return ""

    def check_names(self, sources: Collection[str], categories: Collection[str]) -> None:
        """Raises ConfigError for a source or category that it names and no record has."""
        return

    def benchmarks_read(self) -> tuple[str, ...]:
        """Names of the benchmarks whose samples it reads."""
        return ()

    @abstractmethod
    def start(self, place: Place) -> Step:
        """Raises ConfigError or DataError."""

    def fingerprint(self) -> str:
        """Digest of the value and of what it reads besides the stream."""
        return self.digest()


def check_known(field: str, what: str, named: Iterable[str], present: Collection[str]) -> None:
    """Raises ConfigError for a source or category, by ``what``, that ``field`` names and no record has."""
    for name in named:
        if name not in present:
            raise ConfigError(f"{field}: {unknown(what, name, present)}")


@dataclass
class Lot:
    """Keeps exactly ``wanted`` of ``total`` records that come one by one, each set of so many as likely as any other.

    Selection sampling (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S): no list is held.
    """

    total: int
    wanted: int
    key: str
    _random: np.random.RandomState = field(init=False)

    def __post_init__(self) -> None:
        words = np.frombuffer(hashlib.sha256(self.key.encode()).digest(), dtype=">u4").astype(np.uint32)
        self._random = np.random.RandomState(words)

    def keeps(self) -> bool:
        """Whether the next record is one of them."""
        kept = self._random.random_sample() * self.total < self.wanted
        self.total -= 1
        self.wanted -= kept
        return bool(kept)
