"""Job: one node of a plan as a value. It knows its address, what it needs, what it costs, and how to be done.

The key hashes the job's own identity and the keys of what it needs, so equal work in two designs is one node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ommatidia.core.config import digest
from ommatidia.core.errors import OmmatidiaError
from ommatidia.lab.store import Store


@dataclass(frozen=True, slots=True)
class Price:
    """What a job is expected to need, from arithmetic alone."""

    flops: float = 0.0
    bytes: int = 0
    """Kept on disk afterwards."""
    tokens: int = 0
    """Positions the language model will process."""
    parameters: int = 0
    samples: int = 0

    def __add__(self, other: Price) -> Price:
        return Price(
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.tokens + other.tokens,
            max(self.parameters, other.parameters),
            self.samples + other.samples,
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something known beforehand: an ``error`` that will come, or with None a note."""

    text: str
    error: OmmatidiaError | None = None

    @classmethod
    def of(cls, error: OmmatidiaError) -> Finding:
        return cls(str(error), error)


class Job(ABC):
    """Base of all nodes. Subclasses are frozen dataclasses; ``version`` is raised by hand when their result changes."""

    kind: ClassVar[str]
    version: ClassVar[int]
    together: ClassVar[bool] = False
    """Whether all ranks of a distributed run do it at once; otherwise rank 0 does and the others wait."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A few words for people."""

    @abstractmethod
    def identity(self) -> Any:
        """Plain data that fixes the result, apart from what is needed."""

    @abstractmethod
    def needs(self) -> tuple[Job, ...]:
        """Jobs that must be finished first."""

    @abstractmethod
    def price(self) -> Price: ...

    def findings(self, *, pixels: bool) -> Iterator[Finding]:
        """What is known of this job before any job of its plan is begun: what will end it, and what to say of it.

        ``pixels``: whether images that will be asked about are decoded, or their headers read alone.
        """
        return iter(())

    def kept_bytes(self) -> int:
        """Bytes on disk when it is finished."""
        return self.price().bytes

    def scratch_bytes(self) -> int:
        """Most bytes on disk while it runs, gone when it is finished."""
        return 0

    @abstractmethod
    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        """Do it: leave the result in ``out``, anything to continue from in ``scratch``; return notes to record."""

    @cached_property
    def key(self) -> str:
        return digest([self.kind, self.version, self.identity(), [need.key for need in self.needs()]])

    def folder(self, store: Store) -> Path:
        """Where the finished node lies."""
        return store.folder(self.kind, self.key)
