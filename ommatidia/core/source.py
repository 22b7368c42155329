"""Source: where samples come from. ``data`` implements it, ``eval`` and ``train`` consume it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from ommatidia.core.config import Config
from ommatidia.core.types import Sample


class Source(Protocol):
    """A finite, indexable set of samples; the same index always gives the same sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError when this record cannot be used."""
        ...


class SourceConfig(Config, family=True):
    """Names a source. Two equal configs over equal files give equal samples."""

    @abstractmethod
    def open(self) -> Source:
        """Raises DataError when the source as a whole cannot be read (missing file, empty, wrong layout)."""

    def fingerprint(self) -> str:
        """Digest of the config and of the content it reads, so that changed files change every key built on them."""
        return self.digest()

    def absent(self) -> str | None:
        """A file or folder that it reads and that is not there, for those who can do without; None: all is there."""
        return None

    def published_size(self) -> int | None:
        """About how many records it holds, by those who published it; None: nobody says."""
        return None

    def describe(self) -> str:
        """A few words for tables."""
        return type(self).__name__
