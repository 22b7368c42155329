"""Job: one node of a plan as a value. It knows its address, what it needs, what it costs, and how to be done.

The key hashes the job's own identity and the keys of what it needs, so equal work in two designs is one node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ommatidia.core.config import digest
from ommatidia.lab.store import Store

if TYPE_CHECKING:
    from ommatidia.train.tracking import Tracking


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

    def tracked(self, tracking: Tracking | None) -> Self:
        """The same job, by the same key, that keeps its curves in ``tracking``; only trainings have any."""
        return self

    def reuse(self, store: Store) -> None:  # noqa: B027 - most jobs leave nothing outside of the store
        """What is to be done outside of the store where the finished node is used again."""

    def check(self) -> None:  # noqa: B027 - most jobs need nothing of the machine
        """Raises ConfigError for what is known to be missing before any job of its plan is begun."""

    @abstractmethod
    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        """Do it: leave the result in ``out``, anything to continue from in ``scratch``; return notes to record."""

    @cached_property
    def key(self) -> str:
        return digest([self.kind, self.version, self.identity(), [need.key for need in self.needs()]])

    def folder(self, store: Store) -> Path:
        """Where the finished node lies."""
        return store.folder(self.kind, self.key)
