"""Finite: a loss or gradient that is no number stops the step before the optimiser, and is traced to samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ommatidia.core.errors import RunError
from ommatidia.train.agreement import Agreed, ids
from ommatidia.train.ranks import Ranks, raise_on_all


def refuse_non_finite(agreed: Agreed, told: Sequence[Sequence[float]], ranks: Ranks, place: str) -> None:
    """Raises RunError, on all ranks, unless everything in ``told`` is finite.

    Args:
        told: by rank, the loss sum of each of its micro-batches and then the gradient norm.
        place: the stage and step, for the message.
    """
    for rank, (*sums, _) in enumerate(told):
        if all(map(math.isfinite, sums)):
            continue
        worst = next(value for value in sums if not math.isfinite(value))
        bad = [
            example
            for micro_batch, value in zip(agreed.micro_batches, sums, strict=True)
            if not math.isfinite(value)
            for example in micro_batch.examples
        ]
        named = ranks.gather(ids(bad))[rank]  # each rank knows its own samples
        where = f" on rank {rank}" if ranks.world > 1 else ""
        what = f"the loss is {worst}{where}, stopped before the optimiser step"
        raise raise_on_all(RunError(f"{place}: {what}; {named}"))
    norm = told[0][-1]
    if not math.isfinite(norm):
        every = [example for micro_batch in agreed.micro_batches for example in micro_batch.examples]
        named = "; ".join(ranks.gather(ids(every)))
        raise raise_on_all(
            RunError(f"{place}: the gradient norm is {norm}, stopped before the optimiser step; {named}")
        )
