"""Agreement: what the ranks settle before they compute a step, so that they meet in every collective of it.

They make equally many micro-batches, and pass each through the encoders either all or none. A rank that has none left,
or no image where another has one, takes a blank: a sample that nothing is to be learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ommatidia.core.errors import RunError
from ommatidia.core.types import Example
from ommatidia.train.ranks import Ranks

Blank = Callable[[bool], Example]
"""A sample without labels, with or without an image."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Samples that pass through the model together."""

    examples: Sequence[Example]
    blank: Example | None = None
    """Goes with them, and counts for nothing."""

    @property
    def rows(self) -> Sequence[Example]:
        """All of it, to be collated."""
        return self.examples if self.blank is None else [*self.examples, self.blank]


@dataclass(frozen=True, slots=True)
class Agreed:
    """A step as one rank knows it: its own micro-batches, and sums over all ranks."""

    micro_batches: Sequence[MicroBatch]
    samples: int
    supervised: int
    """Targets that the step's loss is divided by."""
    tokens: int


def agree(
    split: Sequence[Sequence[Example]], targets: Callable[[Example], int], ranks: Ranks, blank: Blank | None
) -> Agreed:
    """Bring this rank's micro-batches in line with the others'.

    Those with images come last, counted from the end: where few ranks have some, they meet. Raises RunError where a
    blank is needed and there is none.
    """
    ordered = sorted((tuple(examples) for examples in split), key=_sees)
    every = [example for examples in ordered for example in examples]
    sums = len(every), sum(map(targets, every)), sum(example.ids.numel() for example in every)
    everyone = ranks.gather(([_sees(examples) for examples in ordered], sums))
    count = max(len(seen) for seen, _ in everyone)
    looks = [any(seen[-back] for seen, _ in everyone if len(seen) >= back) for back in range(count, 0, -1)]
    padded: list[tuple[Example, ...]] = [()] * (count - len(ordered)) + ordered
    micro_batches = []
    for examples, look in zip(padded, looks, strict=True):
        filler = None
        if not examples or (look and not _sees(examples)):
            if blank is None:
                raise RunError("this rank has no sample for a micro-batch of another rank, and no blank one either")
            filler = blank(look)
        micro_batches.append(MicroBatch(examples, filler))
    samples, supervised, tokens = (sum(values) for values in zip(*(sums for _, sums in everyone), strict=True))
    return Agreed(micro_batches, samples, supervised, tokens)


def _sees(examples: Sequence[Example]) -> bool:
    return any(example.views for example in examples)


def ids(examples: Sequence[Example], most: int = 16) -> str:
    """Samples by name, for a message."""
    names = ", ".join(repr(example.id) for example in examples[:most])
    more = f" and {len(examples) - most} more" if len(examples) > most else ""
    return f"samples {names}{more}"
