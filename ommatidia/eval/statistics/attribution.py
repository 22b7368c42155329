"""What an expert is worth to a mixture: conditional utilisation rate and information gap, with paired intervals.

With acc the score of the whole mixture and acc(i) that without expert i, the conditional utilisation rate is
u(i) = (acc - acc(i)) / acc and the information gap is max u - min u over the experts ("Investigating redundancy in
multimodal large language models with multiple vision encoders", ICLR 2026). All designs answer the same samples, so
each replicate draws clusters once for all of them. The gap of a noisy measurement is never below zero: read it with its
interval. Letters: D designs, K clusters, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.interval import Interval, expanded_tail, macro_weights
from ommatidia.eval.statistics.resampling import RESAMPLES, Array, resampled_totals, stratum

if TYPE_CHECKING:
    from ommatidia.eval.scored import Scored


@dataclass(frozen=True, slots=True)
class Attribution:
    """The whole mixture, and by ablation: what is left, what is lost, and what share of the whole that is."""

    full: Interval
    left: dict[str, Interval]
    lost: dict[str, Interval]
    utilisation: dict[str, Interval | None]
    """None where the whole mixture scores nothing: a share of it cannot be told."""
    gap: Interval | None
    """Over ``experts``; None where there are fewer than two or nothing to share."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return asdict(self)


def attribution(
    full: Sequence[Scored],
    ablations: Mapping[str, Sequence[Scored]],
    *,
    experts: Sequence[str],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Attribution:
    """From the scores of one or more benchmarks, averaged as designs are, with all experts and under each ablation.

    ``experts`` names the ablations that take one expert away each: the gap is taken over them. Raises RunError when
    benchmarks or samples differ.
    """
    names = list(ablations)
    suites = [list(full), *(list(ablations[name]) for name in names)]
    order = [one.benchmark for one in full]
    shares = macro_weights(order, {one.benchmark: one.group for one in full})
    rng = np.random.default_rng(seed)
    means_D, means_RD, clusters, samples = np.zeros(len(suites)), np.zeros((resamples, len(suites))), 0, 0
    for benchmark in order:
        rows_KC = _clustered([_only(suite, benchmark) for suite in suites])
        totals_RC = resampled_totals(rows_KC, resamples, rng)
        sums_C = rows_KC.sum(0)
        means_D += shares[benchmark] * sums_C[:-1] / sums_C[-1]
        means_RD += shares[benchmark] * totals_RC[:, :-1] / totals_RC[:, -1:]
        clusters, samples = clusters + len(rows_KC), samples + round(float(sums_C[-1]))
    tail = expanded_tail((1.0 - confidence) / 2.0, clusters)

    def interval(value: float, replicates_R: Array) -> Interval:
        low, high = np.nanquantile(replicates_R, [tail, 1.0 - tail])
        return Interval(value, min(float(low), value), max(float(high), value), confidence, samples, clusters)

    lost_D, lost_RD = means_D[0] - means_D[1:], means_RD[:, :1] - means_RD[:, 1:]
    left = {name: interval(float(means_D[d]), means_RD[:, d]) for d, name in enumerate(names, start=1)}
    lost = {name: interval(float(lost_D[d]), lost_RD[:, d]) for d, name in enumerate(names)}
    shared: dict[str, Interval | None] = dict.fromkeys(names)
    gap: Interval | None = None
    if means_D[0] > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            share_RD = np.where(means_RD[:, :1] > 0, lost_RD / means_RD[:, :1], np.nan)
        share_D = lost_D / means_D[0]
        shared = {name: interval(float(share_D[d]), share_RD[:, d]) for d, name in enumerate(names)}
        columns = [names.index(expert) for expert in experts]
        if len(columns) > 1:
            gap = interval(float(np.ptp(share_D[columns])), np.ptp(share_RD[:, columns], axis=1))
    return Attribution(interval(float(means_D[0]), means_RD[:, 0]), left, lost, shared, gap)


def _only(suite: Sequence[Scored], benchmark: str) -> Scored:
    for one in suite:
        if one.benchmark == benchmark:
            return one
    raise RunError(f"an ablation lacks the benchmark {benchmark!r}")


def _clustered(designs: Sequence[Scored]) -> Array:
    """K rows of each design's sum of weighted values, and the sum of weights."""
    first = designs[0]
    for one in designs[1:]:
        if one.ids != first.ids:
            raise RunError(f"{first.benchmark}: the ablations were not asked the same samples")
    found = [stratum(one.values, np.zeros((0, one.n)), one.clusters, weights=one.weights) for one in designs]
    return np.stack([*(part.base for part in found), found[0].counts], axis=1)
