"""Is one design better than another? Paired on the same samples, clustered by picture, honest about training seeds.

Both designs answer the same samples, so the per-sample difference is what varies.
Intervals: see ``interval``. p-values:

- both designs with one seed, right-or-wrong scores and one sample a picture: McNemar's exact test;
- both with one seed otherwise: a sign-flip test that exchanges the designs for whole clusters at a time;
- several seeds of either: Student's t on the two-level bootstrap's standard error. The variance between seeds is
  pooled over both designs (so a design with one seed borrows it), with Satterthwaite's degrees of freedom. Seeds of
  the two designs are taken as independent. With one seed each, nothing is said about training the designs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.interval import Interval, joint_freedom, macro_weights, summarise
from ommatidia.eval.statistics.multiplicity import holm
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

Verdict = Literal["better", "worse", "cannot tell apart"]
Method = Literal["mcnemar", "sign flip", "seeds t"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Design a against design b on the same samples."""

    difference: float
    """Mean of a minus mean of b."""
    interval: Interval
    """Of the difference."""
    p_value: float
    """Two-sided; not corrected for other comparisons."""
    method: Method
    seeds: tuple[int, int]
    """Training seeds of a and of b. (1, 1) says nothing about training again."""
    standard_error: float

    @property
    def verdict(self) -> Verdict:
        """Of this comparison alone; among several use ``judge``."""
        return verdict(self.difference, self.p_value, alpha=1.0 - self.interval.confidence)

    def detectable(self, power: float = 0.8) -> float:
        """The true difference that comparisons of as many questions and seeds find with probability ``power``.

        As far as the interval reaches to either side, and as far again as so many estimates fall short.
        """
        reach = (self.interval.high - self.interval.low) / 2
        return reach + NormalDist().inv_cdf(power) * self.standard_error

    @property
    def paired_variance(self) -> float:
        """Variance of one cluster's paired difference, for ``minimum_detectable_difference``."""
        return self.standard_error**2 * self.interval.clusters


def verdict(difference: float, p_value: float, *, alpha: float = 0.05) -> Verdict:
    """In words: the first design is better or worse than the second, or they cannot be told apart at ``alpha``."""
    if p_value >= alpha or difference == 0.0:
        return "cannot tell apart"
    return "better" if difference > 0 else "worse"


def judge(comparisons: Sequence[Comparison], *, alpha: float = 0.05) -> list[tuple[float, Verdict]]:
    """For each of several comparisons its Holm-adjusted p-value and the verdict at that value."""
    adjusted = holm([c.p_value for c in comparisons])
    return [(p, verdict(c.difference, p, alpha=alpha)) for c, p in zip(comparisons, adjusted)]


def compare(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two designs on one benchmark: N scores each, or S x N where a design has several training seeds.

    Raises RunError when the designs have unlike numbers of samples.
    """
    named = None if clusters is None else {"": clusters}
    return compare_macro({"": a}, {"": b}, clusters=named, confidence=confidence, resamples=resamples, seed=seed)


def compare_macro(
    a: Mapping[str, ArrayLike],
    b: Mapping[str, ArrayLike],
    *,
    clusters: Mapping[str, Sequence[str]] | None = None,
    weights: Mapping[str, ArrayLike] | None = None,
    groups: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two designs on the average over benchmarks, weighted as ``macro_interval`` does.

    Raises RunError when the designs have unlike benchmarks, samples or numbers of seeds over benchmarks.
    """
    if set(a) != set(b):
        raise RunError(f"the designs have unlike benchmarks: {sorted(set(a) ^ set(b))}")
    left, right = ({name: table(side[name], name) for name in a} for side in (a, b))
    seeds = seeds_of(left, "the first design"), seeds_of(right, "the second design")
    freedom = sum(seeds) - 2
    strata = _strata(left, right, clusters or {}, weights or {}, macro_weights(list(a), groups), freedom)
    rng = np.random.default_rng(seed)
    coefficients = np.zeros((resamples, 0))
    if freedom:
        pool = len(strata[0].deviations)
        coefficients = seed_coefficients(rng, resamples, seeds[0], pool)
        coefficients = coefficients - seed_coefficients(rng, resamples, seeds[1], pool)
    replicates = replicate_means(strata, coefficients, rng)
    spread = seed_variance(strata) * (1 / seeds[0] + 1 / seeds[1])
    interval = summarise(
        strata, replicates, spread, freedom, confidence=confidence, bounds=(-1.0, 1.0), seeds=min(seeds)
    )
    variance = float(np.var(replicates))
    method: Method
    if freedom and variance > 0:
        clusters_total = sum(len(s.base) for s in strata)
        p_value, method = _t_test(interval.mean, variance, joint_freedom(variance, spread, clusters_total - 1, freedom))
    elif (exact := _right_or_wrong(left, right, strata)) is not None:
        p_value, method = mcnemar(*exact), "mcnemar"
    else:
        p_value, method = _sign_flip(strata, resamples, rng), "sign flip"
    return Comparison(
        difference=interval.mean,
        interval=interval,
        p_value=p_value,
        method=method,
        seeds=seeds,
        standard_error=float(np.sqrt(variance)),
    )


def _strata(
    left: Mapping[str, Array],
    right: Mapping[str, Array],
    clusters: Mapping[str, Sequence[str]],
    weights: Mapping[str, ArrayLike],
    shares: Mapping[str, float],
    freedom: int,
) -> list[Stratum]:
    """Paired differences of each benchmark, and the seed deviations of both designs pooled to one unbiased variance."""
    strata = []
    for name, a_SN in left.items():
        b_SN = right[name]
        if a_SN.shape[1] != b_SN.shape[1]:
            raise RunError(f"{name or 'the designs'}: {a_SN.shape[1]} and {b_SN.shape[1]} samples cannot be paired")
        unscaled = [deviations(side) * np.sqrt(1 - 1 / len(side)) for side in (a_SN, b_SN)]
        pooled_MN = np.concatenate(unscaled)
        pooled_MN = pooled_MN * np.sqrt(len(pooled_MN) / max(freedom, 1))
        difference_N = a_SN.mean(0) - b_SN.mean(0)
        strata.append(
            stratum(difference_N, pooled_MN, clusters.get(name), name, shares[name], weights=weights.get(name))
        )
    return strata


def _right_or_wrong(
    left: Mapping[str, Array], right: Mapping[str, Array], strata: Sequence[Stratum]
) -> tuple[int, int] | None:
    """Samples that only the first and only the second design gets right, where McNemar's test applies."""
    if len(strata) != 1 or (strata[0].counts != 1).any():
        return None
    (a_SN,), (b_SN,) = left.values(), right.values()
    if len(a_SN) != 1 or len(b_SN) != 1 or not np.isin(np.concatenate([a_SN, b_SN]), (0.0, 1.0)).all():
        return None
    return int((a_SN > b_SN).sum()), int((a_SN < b_SN).sum())


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided p-value from the two counts of samples that exactly one design gets right."""
    from scipy.special import bdtr

    discordant = only_first + only_second
    return min(1.0, 2.0 * float(bdtr(min(only_first, only_second), discordant, 0.5))) if discordant else 1.0


def _sign_flip(strata: Sequence[Stratum], resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p-value of the weighted difference when the designs are exchanged at random, cluster by cluster.

    Equal cluster differences are flipped together through a binomial count, which allows far more draws.
    """
    signed = np.concatenate([s.weight * s.base / s.counts.sum() for s in strata])
    signed = np.round(signed, 12)  # sums that differ only in their last bits are one size
    sizes, counts = np.unique(np.abs(signed[signed != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    observed, extreme = abs(float(signed.sum())), 0
    draws = max(resamples, min(50_000, 2_000_000 // len(sizes)))
    step = max(1, 2_000_000 // len(sizes))
    for start in range(0, draws, step):
        heads = rng.binomial(counts, 0.5, size=(min(step, draws - start), len(sizes)))
        extreme += int((np.abs((2 * heads - counts) @ sizes) >= observed - 1e-11).sum())
    return (1 + extreme) / (1 + draws)


def _t_test(difference: float, variance: float, freedom: float) -> tuple[float, Method]:
    from scipy.special import stdtr

    return float(2.0 * stdtr(freedom, -abs(difference) / np.sqrt(variance))), "seeds t"
