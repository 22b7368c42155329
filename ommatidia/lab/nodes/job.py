"""Job: one node of a plan as a value. It knows its address, what it needs, what it costs, and how to be done.

The key hashes the job's own identity and the keys of what it needs, so equal work in two designs is one node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ommatidia.core.config import digest
from ommatidia.core.contents import Contents
from ommatidia.core.errors import OmmatidiaError
from ommatidia.core.files import settled
from ommatidia.lab.nodes.provenance import processor
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.price import Price

if TYPE_CHECKING:
    from ommatidia.train.tracking import Tracking


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

    def tracked(self, tracking: Tracking | None) -> Self:
        """The same job, by the same key, that keeps its curves in ``tracking``; only trainings have any."""
        return self

    def reuse(self, store: Store) -> None:  # noqa: B027 - most jobs leave nothing outside of the store
        """What is to be done outside of the store where the finished node is used again."""

    @abstractmethod
    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        """Do it: leave the result in ``out``, anything to continue from in ``scratch``; return notes to record."""

    @property
    def cpu_threads(self) -> int | None:
        """How many CPU threads its arithmetic takes; None where torch's number is left as it is."""
        return None

    def made(self) -> dict[str, Any]:
        """What its record says of the arithmetic that made it."""
        return {}

    @abstractmethod
    def reads(self) -> dict[str, Contents]:
        """What it reads itself, beside what other jobs made, by what that is to it; looked at once in ``settled``."""

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Digests of what it read when its key was made; what reads no file is left out."""
        with settled():
            return {name: contents.digest for name, contents in self.reads().items() if contents}

    @cached_property
    def key(self) -> str:
        with settled():
            needs = [need.key for need in self.needs()]
            return digest([self.kind, self.version, self.identity(), self.inputs, needs])

    def folder(self, store: Store) -> Path:
        """Where the finished node lies."""
        return store.folder(self.kind, self.key)


class Computation(Job):
    """A job that computes with a model. On a CPU the number of threads is part of its identity, because sums come in
    another order with another number; on a GPU it changes nothing."""

    device: str
    threads: int

    @property
    def cpu_threads(self) -> int | None:
        return self.threads if self.device.partition(":")[0] == "cpu" else None

    @property
    def number_format(self) -> str:
        """The precision it computes in."""
        return "fp32"

    def made(self) -> dict[str, Any]:
        return {"processor": processor(self.device), "threads": self.cpu_threads, "precision": self.number_format}

    def arithmetic(self) -> list[Any]:
        """What its identity ends with."""
        return [] if self.cpu_threads is None else [["threads", self.cpu_threads]]
