"""Intervals and averages for scores whose samples share pictures and whose designs were trained with several seeds.

Method. A score is the mean over samples. Clusters (pictures) are drawn with replacement, all samples of a cluster
together, because questions on one picture are not independent. Where a design has several training seeds, its values
are first averaged over the seeds for each sample; then each replicate draws clusters and, on a second level, seeds: a
drawn seed adds its deviation from the average, scaled by sqrt(S / (S - 1)) so that its variance is unbiased. One draw
of seeds serves all benchmarks of a replicate, because a seed is a model and answers them all.

Intervals. With one seed: Hesterberg's expanded percentile interval (percentiles moved outwards for few clusters). With
several: mean -+ t * (standard deviation of the replicates), where the degrees of freedom of clusters and seeds are
joined by Satterthwaite's formula, since two or three seeds know their own spread only roughly. Where all clusters score
alike the bootstrap sees no spread, so the exact binomial bound for "not one in K" is added.

Letters: S seeds, N samples, K clusters, M seed deviations, R resamples. Everything is a pure function of its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ommatidia.core.errors import RunError

Array = NDArray[np.float64]

RESAMPLES = 2000
_FEW_KINDS = 128
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds between which it lies with confidence ``level``."""

    mean: float
    low: float
    high: float
    level: float = 0.95
    n: int = 0
    clusters: int = 0
    seeds: int = 1


@dataclass(frozen=True, slots=True)
class MacroAverage:
    """The mean over benchmarks, or over group means, with the intervals it is made of."""

    overall: Interval
    benchmarks: dict[str, Interval] = field(default_factory=dict)
    groups: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stratum:
    """One benchmark by clusters."""

    base: Array
    """K sums of the values averaged over seeds."""
    deviations: Array
    """M x K sums of each seed's deviation."""
    counts: Array
    """K numbers of samples."""
    weight: float = 1.0

    @property
    def mean(self) -> float:
        return float(self.base.sum() / self.counts.sum())

    @property
    def margin(self) -> float:
        """Half-width to add where all clusters agree: what can still hide behind K equal outcomes, at the 5 % level."""
        each = self.base / self.counts
        return 1.0 - 0.025 ** (1.0 / len(each)) if np.ptp(each) < 1e-12 else 0.0


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of scores in [0, 1] with a cluster bootstrap interval; the method is at the top of the file.

    Args:
        values: N scores, or S x N of the same samples for S training seeds.
        clusters: the cluster of each sample; None makes each sample its own.

    Raises:
        RunError: no values, values that are not finite, or as many clusters as there are not samples.
    """
    named = None if clusters is None else {"": clusters}
    return macro_average({"": values}, clusters=named, level=level, resamples=resamples, seed=seed).overall


def macro_average(
    values: Mapping[str, ArrayLike],
    *,
    clusters: Mapping[str, Sequence[str]] | None = None,
    groups: Mapping[str, str] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MacroAverage:
    """The plain mean over benchmarks, or with ``groups`` (benchmark -> group) the mean of group means as in Cambrian-1.

    Each benchmark's clusters are resampled independently; seeds, rows of S x N values, are resampled together.

    Raises:
        RunError: as ``bootstrap_interval``, or benchmarks with unlike numbers of seeds.
    """
    names = list(values)
    weights = macro_weights(names, groups)
    tables = {name: table(values[name], name) for name in names}
    seeds = seeds_of(tables, "the design")
    strata = {
        name: stratum(tables[name].mean(0), deviations(tables[name]), (clusters or {}).get(name), name, weights[name])
        for name in names
    }

    def interval(chosen: Sequence[str], scale: float) -> Interval:
        parts = [strata[name] for name in chosen]
        parts = [Stratum(p.base, p.deviations, p.counts, p.weight * scale) for p in parts]
        rng = np.random.default_rng(seed)
        coefficients = seed_coefficients(rng, resamples, seeds, seeds) if seeds > 1 else np.zeros((resamples, 0))
        replicates = replicate_means(parts, coefficients, rng)
        spread = seed_variance(parts) / seeds
        return summarise(parts, replicates, spread, seeds - 1, level=level, bounds=(0.0, 1.0), seeds=seeds)

    members: dict[str, list[str]] = {}
    for name, group in ((name, groups[name]) for name in names if groups):
        members.setdefault(group, []).append(name)
    return MacroAverage(
        overall=interval(names, 1.0),
        benchmarks={name: interval([name], 1.0 / weights[name]) for name in names} if len(names) > 1 else {},
        groups={group: interval(inside, float(len(members))) for group, inside in members.items()},
    )


def macro_weights(names: Sequence[str], groups: Mapping[str, str] | None) -> dict[str, float]:
    """The weight of each benchmark in the overall mean; they sum to 1. Raises RunError when one has no group."""
    if not names:
        raise RunError("no benchmark to average")
    if groups is None:
        return {name: 1.0 / len(names) for name in names}
    if missing := [name for name in names if name not in groups]:
        raise RunError(f"benchmark {missing[0]!r} has no group")
    inside = [groups[name] for name in names]
    return {name: 1.0 / (len(set(inside)) * inside.count(groups[name])) for name in names}


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
    base_N: Array, deviations_MN: Array, clusters: Sequence[str] | None, name: str = "", weight: float = 1.0
) -> Stratum:
    """Values and seed deviations summed within clusters. Raises RunError when clusters and values differ in number."""
    n = len(base_N)
    if clusters is None:
        return Stratum(base_N, deviations_MN, np.ones(n), weight)
    if len(clusters) != n:
        raise RunError(f"{name + ': ' if name else ''}{n} values and {len(clusters)} clusters")
    _, member_N = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = [np.bincount(member_N, weights=row) for row in (base_N, *deviations_MN)]
    return Stratum(sums[0], np.array(sums[1:]).reshape(-1, len(sums[0])), np.bincount(member_N).astype(float), weight)


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
        totals_RC = _resampled_totals(rows_KC, len(means_R), rng)
        shifted_R = totals_RC[:, 0] + (totals_RC[:, 2:] * coefficients_RM).sum(1)
        means_R += part.weight * shifted_R / totals_RC[:, 1]
    return means_R


def _resampled_totals(rows_KC: Array, resamples: int, rng: np.random.Generator) -> Array:
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


def summarise(
    strata: Sequence[Stratum],
    replicates_R: Array,
    spread: float,
    freedom: int,
    *,
    level: float,
    bounds: tuple[float, float],
    seeds: int,
) -> Interval:
    """The interval of a weighted mean from its replicates. ``spread`` is the part of its variance that seeds cause,
    known with ``freedom`` degrees of freedom; 0 for designs with one seed."""
    mean = sum(s.weight * s.mean for s in strata)
    clusters = sum(len(s.base) for s in strata)
    n = int(sum(s.counts.sum() for s in strata))
    margin = sum(s.weight * s.margin for s in strata)
    tail = (1.0 - level) / 2.0
    if clusters < 2:
        return Interval(mean, *bounds, level, n, clusters, seeds)
    if freedom > 0:
        variance = float(np.var(replicates_R))
        reach = -t_quantile(tail, joint_freedom(variance, spread, clusters - 1, freedom)) * np.sqrt(variance)
        low, high = mean - reach, mean + reach
    else:
        outward = NormalDist().cdf(float(np.sqrt(clusters / (clusters - 1))) * t_quantile(tail, clusters - 1))
        low, high = np.quantile(replicates_R, [outward, 1.0 - outward])
    low, high = max(bounds[0], float(low) - margin), min(bounds[1], float(high) + margin)
    return Interval(mean, min(low, mean), max(high, mean), level, n, clusters, seeds)


def joint_freedom(variance: float, spread: float, clusters: int, seeds: int) -> float:
    """Satterthwaite's degrees of freedom of a variance of which ``spread`` is known with ``seeds`` degrees of freedom
    and the rest with ``clusters``."""
    rest = max(variance - spread, 0.0)
    bottom = spread**2 / max(seeds, 1) + rest**2 / max(clusters, 1)
    return max(1.0, (spread + rest) ** 2 / bottom) if bottom > 0 else float(max(clusters, 1))


def t_quantile(probability: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given; below alpha means significant among all of them together."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def minimum_detectable_difference(
    n: int, variance: float, *, alpha: float = 0.05, power: float = 0.8, seed_variance: float = 0.0, seeds: int = 1
) -> float:
    """The smallest true difference that a two-sided paired test of ``n`` clusters finds with probability ``power``.

    ``variance`` is that of the paired differences of clusters (``Comparison.paired_variance``), ``seed_variance`` that
    of one design's mean over training seeds, ``seeds`` the number of them for each of the two designs.
    """
    quantiles = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return float(quantiles * np.sqrt(variance / n + 2.0 * seed_variance / seeds))


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank; NaN where one side is constant. Raises RunError on unlike lengths."""
    if len(x) != len(y) or len(x) < 2:
        raise RunError(f"rank correlation needs two or more pairs, got {len(x)} and {len(y)} values")
    a, b = (_ranks(np.asarray(side, dtype=np.float64)) for side in (x, y))
    a, b = a - a.mean(), b - b.mean()
    scale: Any = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
