"""Mixture: several sources as one endless stream; the sample at a position is a pure function of (seed, position).

The stream comes in blocks. A block holds a fixed number of places for every source, in a seeded order, so that how
often a source was drawn before any position is plain arithmetic. A source hands out its records in seeded permutations,
one after another: every record once before any comes twice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ommatidia.core.config import Config, digest
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import Picture, Sample

_LARGEST_BLOCK = 4096
"""Places of a block when the weights are no small whole-number ratio; shares are then right to 1/4096."""


class Weighted(Config):
    """A source and its share of the stream."""

    source: SourceConfig
    weight: Annotated[float, Field(gt=0)] | None = None
    """Share relative to the other weights, whatever the sources' sizes. None, for all sources of a mixture or for none:
    as many as it has records, so that one epoch of the mixture is every record exactly once."""


class MixtureConfig(Config):
    """Sources by name, and the fraction of their records that may turn out unusable before a run stops."""

    sources: dict[str, Weighted]
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources:
            raise ConfigError("sources is empty; name at least one source")
        unweighted = [name for name, weighted in self.sources.items() if weighted.weight is None]
        if unweighted and len(unweighted) < len(self.sources):
            raise ConfigError(
                f"sources: weight is given for some but not for {', '.join(unweighted)}; give all or none"
            )
        return self

    def open(self) -> Mixture:
        """Raises DataError when a source cannot be read or is empty, ConfigError when a package it needs is missing."""
        sources: dict[str, Source] = {}
        for name, weighted in self.sources.items():
            try:
                sources[name] = weighted.source.open()
            except DataError as error:
                raise error.at(source=name) from None
            if len(sources[name]) == 0:
                raise DataError(f"no records in {weighted.source.describe()}; expected at least one", source=name)
        weights = [w.weight for w in self.sources.values() if w.weight is not None]
        return Mixture(sources, weights=weights or None, tolerance=self.tolerance)

    def fingerprint(self) -> str:
        """Digest of the configuration and of the content of every source."""
        parts = [[name, w.source.fingerprint(), w.weight] for name, w in self.sources.items()]
        return digest([parts, self.tolerance])


@runtime_checkable
class Illustrated(Protocol):
    """A source that can list its pictures without going through its samples."""

    def pictures(self) -> Iterator[Picture]: ...


class Mixture:
    """An endless stream of samples with random access. Holds no position: safe to share between threads."""

    def __init__(
        self, sources: Mapping[str, Source], *, weights: Sequence[float] | None = None, tolerance: float = 0.0
    ) -> None:
        self.names = tuple(sources)
        self.sources = tuple(sources.values())
        self.tolerance = tolerance
        self.places = _places(weights) if weights else tuple(len(source) for source in self.sources)
        """How many places of a block each source has."""
        self.block = sum(self.places)
        # Neighbouring positions ask for the same one or two permutations of each source.
        self._record_order = lru_cache(maxsize=2 * len(self.sources))(_permutation)
        self._block_order = lru_cache(maxsize=8)(self._block_order_uncached)

    @property
    def size(self) -> int:
        """Records of all sources together: what one epoch counts."""
        return sum(len(source) for source in self.sources)

    def locate(self, position: int, *, seed: int) -> tuple[str, int]:
        """Name of the source and index of the record that stand at ``position``."""
        which, record = self._locate(position, seed)
        return self.names[which], record

    def draw(self, position: int, *, seed: int) -> Sample:
        """The sample at a position of the stream. Raises DataError when that record cannot be used."""
        return self._read(*self._locate(position, seed))

    def substitute(self, position: int, *, seed: int, attempt: int) -> Sample:
        """A sample of the same source that stands in for the one at ``position``, which could not be used.

        A pure function of its arguments, so that a resumed run draws the same one. Raises DataError as ``draw`` does.
        """
        which, _ = self._locate(position, seed)
        key = hashlib.sha256(f"substitute/{seed}/{position}/{attempt}".encode()).digest()
        return self._read(which, int.from_bytes(key[:8], "big") % len(self.sources[which]))

    def pictures(self) -> Iterator[tuple[str, Picture]]:
        """Every distinct picture of all sources with its digest, in the order they first occur, without decoding any.

        Raises DataError for a record that cannot be used, unless the mixture tolerates some; then it is passed over
        here and counted where it is drawn.
        """
        seen: set[str] = set()
        for name, source in zip(self.names, self.sources, strict=True):
            for picture in _pictures(source, name, tolerant=self.tolerance > 0):
                try:
                    key = picture.digest
                except DataError as error:
                    if self.tolerance > 0:
                        continue
                    raise error.at(source=name) from None
                if key not in seen:
                    seen.add(key)
                    yield key, picture

    def _locate(self, position: int, seed: int) -> tuple[int, int]:
        block, offset = divmod(position, self.block)
        labels, ranks = self._block_order(seed, block)
        which = int(labels[offset])
        drawn_before = block * self.places[which] + int(ranks[offset])
        epoch, place = divmod(drawn_before, len(self.sources[which]))
        order = self._record_order(len(self.sources[which]), f"records/{seed}/{self.names[which]}/{epoch}")
        return which, int(order[place])

    def _block_order_uncached(self, seed: int, block: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """For every place of a block: which source stands there, and how many places of that source came before it."""
        labels = np.repeat(np.arange(len(self.places), dtype=np.int32), self.places)
        labels = labels[_permutation(self.block, f"block/{seed}/{block}")]
        ranks = np.empty(self.block, np.int32)
        for which, count in enumerate(self.places):
            ranks[labels == which] = np.arange(count, dtype=np.int32)
        return labels, ranks

    def _read(self, which: int, record: int) -> Sample:
        try:
            return self.sources[which][record]
        except DataError as error:
            raise error.at(source=self.names[which], sample=str(record)) from None


def _permutation(count: int, key: str) -> NDArray[np.int32]:
    """A permutation of 0..count-1 that depends on ``key`` alone. RandomState's stream is frozen by NumPy, for ever."""
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype=">u4").astype(np.uint32)
    order = np.arange(count, dtype=np.int32)
    np.random.RandomState(words).shuffle(order)
    return order


def _places(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers in the ratio of the weights: exact where a block of at most 4096 places can be, else near."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    whole = [count // math.gcd(*whole) for count in whole]
    if sum(whole) <= _LARGEST_BLOCK:
        return tuple(whole)
    total = sum(exact)
    ideal = [weight / total * _LARGEST_BLOCK for weight in exact]
    counts = [max(1, math.floor(share)) for share in ideal]
    # The places that rounding down left over go to the largest remainders; a share below one place got one already.
    by_need = sorted(range(len(ideal)), key=lambda i: counts[i] - ideal[i])
    for i in by_need[: max(0, _LARGEST_BLOCK - sum(counts))]:
        counts[i] += 1
    return tuple(counts)


def _pictures(source: Source, name: str, *, tolerant: bool) -> Iterator[Picture]:
    if isinstance(source, Illustrated):
        yield from source.pictures()
        return
    for index in range(len(source)):
        try:
            images = source[index].images
        except DataError as error:
            if tolerant:
                continue
            raise error.at(source=name, sample=str(index)) from None
        yield from images
