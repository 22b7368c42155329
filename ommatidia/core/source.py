"""Source: where samples come from. ``data`` implements it, ``eval`` and ``train`` consume it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ommatidia.core.config import Config, digest
from ommatidia.core.contents import Contents, Entry
from ommatidia.core.errors import DataError
from ommatidia.core.files import looked
from ommatidia.core.types import Message, Picture, Sample


class Source(Protocol):
    """A finite, indexable set of samples; the same index always gives the same sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError when this record cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class Looked:
    """A record as it lies there: what could be read of it, and everything that is wrong with it."""

    place: str
    """Where it is, in words: a line, a record, a member of a shard."""
    id: str | None = None
    """None: it has none of its own."""
    messages: tuple[Message, ...] = ()
    images: tuple[Picture, ...] = ()
    faults: list[DataError] = field(default_factory=list)
    unread: tuple[str, ...] = ()
    """Fields of the record that nothing reads."""


class Inspection(Protocol):
    """The records of a source, those that cannot be used included. Safe to share between threads."""

    @property
    def faults(self) -> Sequence[DataError]:
        """What is wrong with the source as a whole."""
        ...

    def __len__(self) -> int: ...

    def look(self, index: int) -> Looked: ...


class Opened:
    """The inspection of any source: what is wrong with a record is what reading it says."""

    faults: tuple[DataError, ...] = ()

    def __init__(self, source: Source) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def look(self, index: int) -> Looked:
        try:
            sample = self._source[index]
        except DataError as error:
            return Looked(f"record {index + 1}", faults=[error])
        return Looked(f"record {index + 1}", sample.id, sample.messages, sample.images)


class SourceConfig(Config, family=True):
    """Names a source. Two equal configs over equal files give equal samples."""

    @abstractmethod
    def open(self) -> Source:
        """Raises DataError when the source as a whole cannot be read (missing file, empty, wrong layout)."""

    def inspect(self) -> Inspection:
        """All records, to find everything that is wrong with them. Raises DataError as ``open`` does."""
        return Opened(self.open())

    def fingerprint(self) -> str:
        """Digest of this value and of the content of all that it reads, wherever that lies.

        Raises DataError when the source as a whole cannot be read.
        """
        return digest([self.hashed_without_places(), self.contents().digest])

    def contents(self) -> Contents:
        """What it reads, by content; looked at once inside ``files.settled``. Raises DataError as ``open`` does."""
        return looked(["source", self.to_json()], self.reads)

    def reads(self) -> Contents:
        """What it reads, looked at now: every file whose bytes can change a sample, under the name the data give it.

        Without files, nothing. A kind that does not say is read through, sample by sample: right for any, and slow.
        """
        return _read_through(self.open())

    def absent(self) -> str | None:
        """A file or folder that it reads and that is not there, for those who can do without; None: all is there."""
        return None

    def published_size(self) -> int | None:
        """About how many records it holds, by those who published it; None: nobody says."""
        return None

    def describe(self) -> str:
        """A few words for tables."""
        return type(self).__name__


def _read_through(source: Source) -> Contents:
    def entries() -> Iterator[Entry]:
        for index in range(len(source)):
            try:
                sample = source[index]
                images = [picture.digest for picture in sample.images]
                said = [[message.role, [repr(part) for part in message.parts]] for message in sample.messages]
                yield sample.id, None, digest([said, images, repr(sample.meta)])
            except DataError as error:
                yield f"record {index + 1}", None, digest(str(error))

    return Contents.of(entries())
