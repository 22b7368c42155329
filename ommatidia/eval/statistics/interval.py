"""Intervals for the mean of scores, of one benchmark or over several.

Method. A score is the mean over samples. Clusters (pictures) are drawn with replacement, all samples of a cluster
together, because questions on one picture are not independent. Where a design has several training seeds, its values
are first averaged over the seeds for each sample; then each replicate draws clusters and, on a second level, seeds: a
drawn seed adds its deviation from the average, scaled by sqrt(S / (S - 1)) so that its variance is unbiased. One draw
of seeds serves all benchmarks of a replicate, because a seed is a model and answers them all.

Intervals. With one seed: Hesterberg's expanded percentile interval (percentiles moved outwards for few clusters). With
several: mean -+ t * (standard deviation of the replicates), where the degrees of freedom of clusters and seeds are
joined by Satterthwaite's formula, since two or three seeds know their own spread only roughly. Where all clusters score
alike the bootstrap sees no spread, so the exact binomial bound for "not one in K" is added (in quadrature).

Letters: S seeds, N samples, K clusters, M seed deviations, R resamples. Everything is a pure function of its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.resampling import (
    RESAMPLES,
    Array,
    Stratum,
    deviations,
    replicate_means,
    seed_coefficients,
    seed_variance,
    seeds_of,
    stratum,
    table,
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds between which it lies with probability ``confidence``."""

    mean: float
    low: float
    high: float
    confidence: float = 0.95
    n: int = 0
    clusters: int = 0
    seeds: int = 1


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[str] | None = None,
    *,
    weights: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    most: float = 1.0,
) -> Interval:
    """The mean of scores in [0, ``most``] with a cluster bootstrap interval; the method is at the top of the file.

    Args:
        values: N scores, or S x N of the same samples for S training seeds.
        clusters: the cluster of each sample; None makes each sample its own.
        weights: how much each sample counts in the mean; None makes all count alike.

    Raises:
        RunError: no values, values that are not finite, or as many clusters or weights as there are not samples.
    """
    return macro_interval(
        {"": values},
        clusters=None if clusters is None else {"": clusters},
        weights=None if weights is None else {"": weights},
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        most=most,
    )


def macro_interval(
    values: Mapping[str, ArrayLike],
    *,
    clusters: Mapping[str, Sequence[str]] | None = None,
    weights: Mapping[str, ArrayLike] | None = None,
    groups: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    most: float = 1.0,
) -> Interval:
    """The plain mean over benchmarks, or with ``groups`` (benchmark -> group) the mean of group means as in Cambrian-1.

    ``weights`` says how much each sample counts. Each benchmark's clusters are resampled independently; seeds, the
    rows of S x N values, are resampled together.

    Raises:
        RunError: as ``bootstrap_interval``, or benchmarks with unlike numbers of seeds.
    """
    shares = macro_weights(list(values), groups)
    tables = {name: table(values[name], name) for name in values}
    seeds = seeds_of(tables, "the design")
    strata = [
        stratum(
            values_SN.mean(0),
            deviations(values_SN),
            (clusters or {}).get(name),
            name,
            shares[name],
            weights=(weights or {}).get(name),
        )
        for name, values_SN in tables.items()
    ]
    rng = np.random.default_rng(seed)
    coefficients = seed_coefficients(rng, resamples, seeds, seeds) if seeds > 1 else np.zeros((resamples, 0))
    replicates = replicate_means(strata, coefficients, rng)
    spread = seed_variance(strata) / seeds
    return summarise(strata, replicates, spread, seeds - 1, confidence=confidence, bounds=(0.0, most), seeds=seeds)


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


def summarise(
    strata: Sequence[Stratum],
    replicates_R: Array,
    spread: float,
    freedom: int,
    *,
    confidence: float,
    bounds: tuple[float, float],
    seeds: int,
) -> Interval:
    """The interval of a weighted mean from its replicates. ``spread`` is the part of its variance that seeds cause,
    known with ``freedom`` degrees of freedom; 0 for designs with one seed."""
    mean = sum(s.weight * s.mean for s in strata)
    clusters = sum(len(s.base) for s in strata)
    n = round(sum(s.counts.sum() for s in strata))
    margin = sum((s.weight * s.margin) ** 2 for s in strata)
    tail = (1.0 - confidence) / 2.0
    if clusters < 2:
        return Interval(mean, *bounds, confidence, n, clusters, seeds)
    if freedom > 0:
        variance = float(np.var(replicates_R))
        reach = -t_quantile(tail, joint_freedom(variance, spread, clusters - 1, freedom)) * np.sqrt(variance)
        low, high = mean - reach, mean + reach
    else:
        outward = expanded_tail(tail, clusters)
        low, high = np.quantile(replicates_R, [outward, 1.0 - outward])
    low = max(bounds[0], mean - float(np.hypot(max(mean - low, 0.0), np.sqrt(margin))))
    high = min(bounds[1], mean + float(np.hypot(max(high - mean, 0.0), np.sqrt(margin))))
    return Interval(mean, low, high, confidence, n, clusters, seeds)


def expanded_tail(tail: float, clusters: int) -> float:
    """Where a percentile interval ends that is moved outwards for few clusters (Hesterberg's expansion)."""
    if clusters < 2:
        return 0.0
    return NormalDist().cdf(float(np.sqrt(clusters / (clusters - 1))) * t_quantile(tail, clusters - 1))


def joint_freedom(variance: float, spread: float, clusters: int, seeds: int) -> float:
    """Satterthwaite's degrees of freedom of a variance of which ``spread`` is known with ``seeds`` degrees of freedom
    and the rest with ``clusters``."""
    rest = max(variance - spread, 0.0)
    bottom = spread**2 / max(seeds, 1) + rest**2 / max(clusters, 1)
    return max(1.0, (spread + rest) ** 2 / bottom) if bottom > 0 else float(max(clusters, 1))


def t_quantile(probability: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
