"""Replicates of a mean: clusters drawn anew, and training seeds on a second level. The method is told in ``interval``.

Letters: S seeds, N samples, K clusters, M seed deviations, R resamples, C columns, D distinct rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ommatidia.core.errors import RunError

Array = NDArray[np.float64]

RESAMPLES = 2000
_FEW_KINDS = 128
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Stratum:
    """One benchmark by clusters."""

    base: Array
    """K sums of the weighted values averaged over seeds."""
    deviations: Array
    """M x K sums of each seed's deviation."""
    counts: Array
    """K sums of the samples' weights, which are 1 on average: their numbers where all count alike."""
    weight: float = 1.0

    @property
    def mean(self) -> float:
        return float(self.base.sum() / self.counts.sum())

    @property
    def margin(self) -> float:
        """Half-width to add where all clusters agree: what can still hide behind K equal outcomes, at 95 %."""
        each = self.base / self.counts
        return 1.0 - 0.025 ** (1.0 / len(each)) if np.ptp(each) < 1e-12 else 0.0


def table(values: ArrayLike, name: str = "") -> Array:
    """Values as S x N. Raises RunError when they are empty, not finite or of another rank."""
    place = f"{name}: " if name else ""
    try:
        values_SN = np.atleast_2d(np.asarray(values, dtype=np.float64))
    except ValueError:
        raise RunError(f"{place}the seeds have unlike numbers of values; they must answer the same samples") from None
    if values_SN.ndim != 2 or values_SN.size == 0:
        raise RunError(f"{place}expected values, or seeds x values, got the shape {values_SN.shape}")
    if not np.isfinite(values_SN).all():
        raise RunError(f"{place}values must be finite")
    return values_SN


def seeds_of(tables: Mapping[str, Array], what: str) -> int:
    """The number of seeds that all tables share. Raises RunError when they differ."""
    counts = {name: len(values_SN) for name, values_SN in tables.items()}
    if len(set(counts.values())) != 1:
        raise RunError(f"{what} has unlike numbers of seeds: {counts}")
    return next(iter(counts.values()))


def deviations(values_SN: Array) -> Array:
    """Each seed's deviation from the mean over seeds, scaled to unbiased variance; no row for a single seed."""
    seeds, n = values_SN.shape
    if seeds == 1:
        return np.zeros((0, n))
    return (values_SN - values_SN.mean(0)) * np.sqrt(seeds / (seeds - 1))


def stratum(
    base_N: Array,
    deviations_MN: Array,
    clusters: Sequence[str] | None,
    name: str = "",
    weight: float = 1.0,
    *,
    weights: ArrayLike | None = None,
) -> Stratum:
    """Values and seed deviations summed within clusters; ``weights`` says how much each sample counts.

    Raises RunError when clusters, weights and values differ in number, or a weight is not positive.
    """
    n, place = len(base_N), f"{name}: " if name else ""
    weights_N = _weights(weights, n, place)
    rows = [weights_N * row for row in (base_N, *deviations_MN)]
    if clusters is None:
        return Stratum(rows[0], np.array(rows[1:], dtype=np.float64).reshape(-1, n), weights_N, weight)
    if len(clusters) != n:
        raise RunError(f"{place}{n} values and {len(clusters)} clusters")
    _, member_N = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = [np.bincount(member_N, weights=row) for row in rows]
    sums_MK = np.array(sums[1:], dtype=np.float64).reshape(-1, len(sums[0]))
    counts_K = np.bincount(member_N, weights=weights_N).astype(np.float64)
    return Stratum(sums[0].astype(np.float64), sums_MK, counts_K, weight)


def _weights(weights: ArrayLike | None, n: int, place: str) -> Array:
    """Weights of n samples, scaled to 1 on average."""
    if weights is None:
        return np.ones(n)
    weights_N = np.asarray(weights, dtype=np.float64)
    if weights_N.shape != (n,):
        raise RunError(f"{place}{n} values and {weights_N.size} weights")
    if not (np.isfinite(weights_N).all() and (weights_N > 0).all()):
        raise RunError(f"{place}weights must be positive")
    return weights_N / weights_N.mean()


def seed_coefficients(rng: np.random.Generator, resamples: int, seeds: int, pool: int) -> Array:
    """R x M: how much each deviation of the pool counts when ``seeds`` of them are drawn and averaged."""
    return rng.multinomial(seeds, np.full(pool, 1.0 / pool), size=resamples) / seeds


def seed_variance(strata: Sequence[Stratum]) -> float:
    """The variance of one seed's overall mean around that of all seeds; 0 where there are no deviations."""
    overall_M = sum(s.weight * s.deviations.sum(1) / s.counts.sum() for s in strata)
    return float(np.mean(np.square(overall_M))) if np.size(overall_M) else 0.0


def replicate_means(strata: Sequence[Stratum], coefficients_RM: Array, rng: np.random.Generator) -> Array:
    """R replicates of the weighted mean: clusters of each stratum drawn anew, seeds as the coefficients say."""
    means_R = np.zeros(len(coefficients_RM))
    for part in strata:
        rows_KC = np.stack([part.base, part.counts, *part.deviations], axis=1)
        totals_RC = resampled_totals(rows_KC, len(means_R), rng)
        shifted_R = totals_RC[:, 0] + (totals_RC[:, 2:] * coefficients_RM).sum(1)
        means_R += part.weight * shifted_R / totals_RC[:, 1]
    return means_R


def resampled_totals(rows_KC: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Column sums of K rows drawn with replacement, R times. Few distinct rows are drawn by their counts instead,
    which has the same distribution and is a hundred times faster for right-or-wrong scores."""
    total = len(rows_KC)
    if total > _FEW_KINDS:
        order = np.lexsort(rows_KC.T)
        starts = np.flatnonzero(np.r_[True, (np.diff(rows_KC[order], axis=0) != 0).any(1)])
        kinds_DC, frequency_D = rows_KC[order[starts]], np.diff(np.r_[starts, total])
        if len(starts) <= _FEW_KINDS:
            return rng.multinomial(total, frequency_D / total, size=resamples) @ kinds_DC
    totals_RC = np.empty((resamples, rows_KC.shape[1]))
    step = max(1, _CHUNK // total)
    columns = [np.ascontiguousarray(column) for column in rows_KC.T]
    for start in range(0, resamples, step):
        drawn = rng.integers(0, total, size=(min(step, resamples - start), total), dtype=np.int32)
        for c, column in enumerate(columns):
            constant = (column == column[0]).all()
            totals_RC[start : start + len(drawn), c] = column[0] * total if constant else column[drawn].sum(1)
    return totals_RC
