"""Mixture: several sources as one endless stream; the sample at a position is a pure function of (seed, position).

The stream comes in blocks. A block holds a fixed number of places for every source, in a seeded order, so that how
often a source was drawn before any position is plain arithmetic. A source hands out its records in seeded permutations,
one after another: every record once before any comes twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ommatidia.core.config import Config, digest
from ommatidia.core.errors import ConfigError, DataError, unknown
from ommatidia.core.names import Name
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import Picture, Sample
from ommatidia.data.blend import Division, block_order, offered, permutation, places_of


class Weighted(Config):
    """A source and its share of the stream. At most one of ``weight``, ``count`` and ``epochs`` is given."""

    source: SourceConfig
    weight: Annotated[float, Field(ge=0)] | None = None
    """Share relative to the other weights, whatever the sources' sizes; 0 leaves the source out. None, for all sources
    of a mixture or for none: as many as it offers, so that by default one epoch is every record exactly once."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Samples of it in one epoch of the mixture: the first so many of an order that goes on in the next epoch; more
    than it has records, and they come again."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """How often each of its records comes in one epoch of the mixture; 0.1 is every tenth, another tenth each time."""
    category: str | None = None
    """What ``MixtureConfig.categories`` calls it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("weight", "count", "epochs") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} are given; expected one of weight, count and epochs")
        return self


class MixtureConfig(Config):
    """Sources by name, how the stream is divided among them, and what share of their records may be unusable.

    Every source offers what one epoch wants of it: its records, or its ``count`` or ``epochs``, at most ``cap``. The
    shares of the stream are the weights, or else what is offered, raised to the power 1 / ``temperature``. With
    ``categories`` those are the shares within a category, and each category has its own.

    An epoch counts what all sources offer together, or ``epoch`` samples. Where nothing but offers is given, an epoch
    holds exactly them. Where shares are given, it is as long and every source has its share of it.
    """

    sources: dict[Name, Weighted]
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of records that may turn out unusable before a run stops."""
    cap: Annotated[int, Field(ge=1)] | None = None
    """Samples that one epoch takes of any one source at most (Cambrian-1's threshold t, section 6.3)."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """1 is in proportion to what is offered; the higher, the more alike the shares."""
    categories: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Relative shares of categories (Cambrian-1's data ratio); every source then names its category."""
    epoch: Annotated[int, Field(ge=1)] | None = None
    """Samples that one epoch counts; None: what all sources offer together."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources:
            raise ConfigError("sources is empty; name at least one source")
        weights = {name: weighted.weight for name, weighted in self.sources.items()}
        unweighted = [name for name, weight in weights.items() if weight is None]
        if unweighted and len(unweighted) < len(self.sources):
            raise ConfigError(
                f"sources: weight is given for some but not for {', '.join(unweighted)}; give all or none"
            )
        if not unweighted:
            if not any(weights.values()):
                raise ConfigError(f"sources: the weights of {', '.join(weights)} sum to 0; expected one above 0")
            for name in ("cap", "temperature"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"{name}: weights are shares whatever is offered; give one of weight and {name}")
        if self.categories is not None:
            _check_categories(self.categories, self.sources)
        return self

    def used(self) -> dict[str, Weighted]:
        """The sources with a share above 0."""
        shares = self.categories
        return {
            name: weighted
            for name, weighted in self.sources.items()
            if weighted.weight != 0 and (shares is None or shares[weighted.category or ""] > 0)
        }

    def divide(self, sizes: Mapping[str, int]) -> Division:
        """The division of the stream for sources of such sizes: arithmetic, no data is read. Unused sources are out."""
        used = self.used()
        offers = {
            name: offered(sizes[name], count=weighted.count, epochs=weighted.epochs, cap=self.cap)
            for name, weighted in used.items()
        }
        shares = self._shares(used, offers)
        total = sum(shares.values())
        exact = shares == offers and self.epoch is None
        places = offers if exact else dict(zip(used, places_of(tuple(shares.values()))))
        wanted = {name: float(share / total) for name, share in shares.items()}
        return Division(offers, wanted, places, self.epoch or sum(offers.values()))

    def _shares(self, used: Mapping[str, Weighted], offers: Mapping[str, int]) -> dict[str, Fraction]:
        shares: dict[str, Fraction] = {}
        for name, weighted in used.items():
            if weighted.weight is not None:
                shares[name] = Fraction(str(weighted.weight))
            elif self.temperature is not None and self.temperature != 1:
                shares[name] = Fraction(str(offers[name] ** (1 / self.temperature)))
            else:
                shares[name] = Fraction(offers[name])
        if self.categories is None:
            return shares
        totals: dict[str, Fraction] = {}
        for name, weighted in used.items():
            totals[weighted.category or ""] = totals.get(weighted.category or "", Fraction(0)) + shares[name]
        return {
            name: shares[name]
            / totals[weighted.category or ""]
            * Fraction(str(self.categories[weighted.category or ""]))
            for name, weighted in used.items()
        }

    def open(self) -> Mixture:
        """Raises DataError when a source cannot be read or is empty, ConfigError when a package it needs is missing."""
        sources: dict[str, Source] = {}
        for name, weighted in self.used().items():
            try:
                sources[name] = weighted.source.open()
            except DataError as error:
                raise error.at(source=name) from None
            if len(sources[name]) == 0:
                raise DataError(f"no records in {weighted.source.describe()}; expected at least one", source=name)
        division = self.divide({name: len(source) for name, source in sources.items()})
        return Mixture(sources, division=division, tolerance=self.tolerance)

    def fingerprint(self) -> str:
        """Digest of the configuration and of the content of every source that is used."""
        parts = [
            [name, w.source.fingerprint(), w.weight, w.count, w.epochs, w.category] for name, w in self.used().items()
        ]
        categories = None if self.categories is None else list(self.categories.items())
        return digest([parts, self.tolerance, self.cap, self.temperature, categories, self.epoch])


def _check_categories(categories: Mapping[str, float], sources: Mapping[str, Weighted]) -> None:
    held = {category: [n for n, w in sources.items() if w.category == category] for category in categories}
    for name, weighted in sources.items():
        if weighted.category is None:
            raise ConfigError(f"sources.{name}.category is missing; one of {', '.join(categories)}")
        if weighted.category not in categories:
            raise ConfigError(f"sources.{name}.category: {unknown('category', weighted.category, categories)}")
    if not any(categories.values()):
        raise ConfigError(f"categories: the shares of {', '.join(categories) or 'none'} sum to 0; expected one above 0")
    for category, share in categories.items():
        if share and not any(sources[name].weight != 0 for name in held[category]):
            raise ConfigError(f"categories.{category}: a share of {share:g}, but no source with a weight above 0")


@runtime_checkable
class Illustrated(Protocol):
    """A source that can list its images without going through its samples."""

    def pictures(self) -> Iterator[Picture]: ...


class Mixture:
    """An endless stream of samples with random access. Holds no position: safe to share between threads."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        weights: Sequence[float] | None = None,
        division: Division | None = None,
        tolerance: float = 0.0,
    ) -> None:
        self.names = tuple(sources)
        self.sources = tuple(sources.values())
        self.tolerance = tolerance
        sizes = tuple(len(source) for source in self.sources)
        given = None if division is None else tuple(division.places.values())
        self.places = given or (places_of(weights) if weights else sizes)
        """How many places of a block each source has."""
        self.block = sum(self.places)
        self.size = sum(sizes) if division is None else division.epoch
        """Samples that one epoch counts."""
        # Neighbouring positions ask for the same one or two permutations of each source.
        self._record_order = lru_cache(maxsize=2 * len(self.sources))(permutation)
        self._block_order = lru_cache(maxsize=8)(self._block_order_uncached)

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
        """Every distinct image of all sources with its digest, in the order they first occur, without decoding any.

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
        return block_order(self.places, seed=seed, block=block)

    def _read(self, which: int, record: int) -> Sample:
        try:
            return self.sources[which][record]
        except DataError as error:
            raise error.at(source=self.names[which], sample=str(record)) from None


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
