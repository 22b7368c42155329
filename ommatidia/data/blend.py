"""Blends: what each source of a mixture offers in an epoch, and how many places of a block of the stream it gets."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

SMALLEST_BLOCK = 4096
"""Places of a block when the shares are no small whole-number ratio."""
LARGEST_BLOCK = 2**17
"""Places to which such a block is doubled while a source would have fewer than ``FAIR``."""
FAIR = 8


@dataclass(frozen=True, slots=True)
class Division:
    """How a stream is divided among the sources of a mixture, in their order."""

    offered: Mapping[str, int]
    """Samples that one epoch wants of each source, whatever its share: its records, or its count, epochs or cap."""
    wanted: Mapping[str, float]
    """The share of the stream that was asked for; sums to 1."""
    places: Mapping[str, int]
    """Places of a block: what the share really is, exactly, over every whole block."""
    epoch: int
    """Samples that one epoch of the mixture counts."""

    @property
    def block(self) -> int:
        """Places of a block, all sources together."""
        return sum(self.places.values())

    def drawn(self, samples: int, *, seed: int) -> dict[str, int]:
        """How often each source stands among the first ``samples`` positions of the stream: counted, not estimated."""
        whole, rest = divmod(samples, self.block)
        counts = tuple(self.places.values())
        labels, _ = block_order(counts, seed=seed, block=whole) if rest else (np.empty(0, np.int32), None)
        partial = np.bincount(labels[:rest], minlength=len(counts))
        return {name: whole * count + int(partial[i]) for i, (name, count) in enumerate(self.places.items())}


def offered(records: int, *, count: int | None, epochs: float | None, cap: int | None) -> int:
    """Samples that one epoch wants of a source with so many records; at least one of a source that has any."""
    wanted = records
    if count is not None:
        wanted = count
    elif epochs is not None:
        wanted = max(1, math.floor(Fraction(str(epochs)) * records + Fraction(1, 2)))
    return wanted if cap is None else min(wanted, cap)


def places_of(weights: Sequence[float | Fraction]) -> tuple[int, ...]:
    """Whole numbers in the ratio of the weights: exact where a block of at most 4096 places can be, else near.

    Near is within one place of a block that has at least 4096. A weight of 0 has no place, any other at least one.
    """
    exact = [weight if isinstance(weight, Fraction) else Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    whole = [count // math.gcd(*whole) for count in whole]
    if sum(whole) <= SMALLEST_BLOCK:
        return tuple(whole)
    total, least = sum(exact), min(weight for weight in exact if weight)
    block = SMALLEST_BLOCK
    while block < LARGEST_BLOCK and least / total * block < FAIR:
        block *= 2
    ideal = [weight / total * block for weight in exact]
    counts = [max(1, math.floor(share)) if share else 0 for share in ideal]
    # The places that rounding down left over go to the largest remainders; a share below one place got one already.
    by_need = sorted((i for i, share in enumerate(ideal) if share), key=lambda i: counts[i] - ideal[i])
    for i in by_need[: max(0, block - sum(counts))]:
        counts[i] += 1
    return tuple(counts)


def block_order(places: Sequence[int], *, seed: int, block: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For every place of a block: which source stands there, and how many places of that source came before it."""
    labels = np.repeat(np.arange(len(places), dtype=np.int32), places)
    labels = labels[permutation(len(labels), f"block/{seed}/{block}")]
    ranks = np.empty(len(labels), np.int32)
    for which, count in enumerate(places):
        ranks[labels == which] = np.arange(count, dtype=np.int32)
    return labels, ranks


def permutation(count: int, key: str) -> NDArray[np.int32]:
    """A permutation of 0..count-1 that depends on ``key`` alone. RandomState's stream is frozen by NumPy, for ever."""
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype=">u4").astype(np.uint32)
    order = np.arange(count, dtype=np.int32)
    np.random.RandomState(words).shuffle(order)
    return order
