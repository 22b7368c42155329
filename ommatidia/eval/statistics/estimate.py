"""Estimates: a weighted sum of runs' scores with its standard error, degrees of freedom, interval and p-value.

The variance is the questions' part of each benchmark plus the seeds' part, each counted once. Their degrees of freedom
are joined by Satterthwaite's formula (1946, Biometrics Bulletin 2): K - 1 for a benchmark of K clusters, and for the
seeds those of the noise model. The interval is mean -+ t * standard error. The p-value is the smallest error at which
the interval leaves zero out, so that the two cannot disagree: there is one rule.

Where all clusters score alike the sample shows no variance. The exact binomial bound for "not one in K" is then added
to the half-width (in quadrature): 20 right of 20 do not prove that all are right. A difference that all K clusters show
alike has no smaller p-value than the sign test's, 2 / 2^K (McNemar's exact test, where answers are right or wrong), and
below that error its interval excludes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.interval import Interval, t_quantile
from ommatidia.eval.statistics.noise import UNKNOWN, NoiseModel, noise_model
from ommatidia.eval.statistics.run_scores import Array, BenchmarkScores, Run, RunScores, run_scores, table

Verdict = Literal["better", "worse", "cannot tell apart"]

_WORST = 0.25
"""The largest variance of a score between 0 and 1: what is taken where one image is all there is."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or a difference of means, between ``bounds``."""

    mean: float
    standard_error: float
    freedom: float
    bounds: tuple[float, float] = (0.0, 1.0)
    alike: tuple[tuple[float, int], ...] = ()
    """Of each benchmark whose clusters all score alike: how far its part of the mean is from the furthest that one
    cluster could score, and how many clusters it has."""
    questions: int = 0
    clusters: int = 0
    seeds: int = 1
    """The fewest of a design; with one, nothing is said about training again unless other designs tell the noise."""

    def half_width(self, error: float) -> float:
        """Of the interval that misses with probability ``error``."""
        if error <= self.least_p:
            return self.bounds[1] - self.bounds[0]
        reach = -t_quantile(error / 2, self.freedom) * self.standard_error
        return float(np.hypot(reach, self.unseen(error)))

    def unseen(self, error: float) -> float:
        """What can hide behind clusters that all score alike: the exact binomial bound for "not one in K"."""
        return float(np.sqrt(sum((reach * (1.0 - (error / 2) ** (1.0 / count))) ** 2 for reach, count in self.alike)))

    @property
    def least_p(self) -> float:
        """The p-value that a difference can have at least: of the sign test, where clusters are unanimous."""
        return 2.0 * 0.5**self.clusters if self.alike and self.bounds[0] < 0 else 0.0

    def interval(self, confidence: float = 0.95) -> Interval:
        """The mean and its bounds."""
        return self._around(self.half_width(1.0 - confidence), confidence)

    def _around(self, half: float, confidence: float) -> Interval:
        low, high = max(self.bounds[0], self.mean - half), min(self.bounds[1], self.mean + half)
        return Interval(
            self.mean, min(low, self.mean), max(high, self.mean), confidence, self.questions, self.clusters, self.seeds
        )

    def simultaneous(self, error: float, confidence: float) -> Interval:
        """The interval at the pointwise ``error`` that makes several intervals hold together at ``confidence``."""
        return self._around(self.half_width(error), confidence)

    @property
    def p_value(self) -> float:
        """Two-sided, of no difference: the error at which the interval's end is zero."""
        distance = abs(self.mean)
        if distance == 0.0:
            return 1.0
        if not self.alike:
            return min(1.0, 2.0 * t_tail(distance / self.standard_error, self.freedom)) if self.standard_error else 0.0
        low, high = -700.0, 0.0  # of the logarithm of the error; the half-width falls as the error grows
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.half_width(float(np.exp(middle))) > distance else (low, middle)
        return min(1.0, max(float(np.exp(high)), self.least_p))

    def verdict(self, *, error: float = 0.05) -> Verdict:
        """Of this difference alone; among several, ``ranking.compare_to`` adjusts."""
        return verdict_of(self.mean, self.p_value, error=error)

    def equal_within(self, margin: float, *, error: float = 0.05) -> bool:
        """Whether the difference is shown to be smaller than ``margin``: two one-sided tests (Schuirmann 1987)."""
        return self.equality_margin(error=error) < margin

    def equality_margin(self, *, error: float = 0.05) -> float:
        """The smallest margin within which the two are shown to be equal, by two one-sided tests at ``error``."""
        return abs(self.mean) + self.half_width(2 * error)

    def detectable(self, power: float = 0.8, *, error: float = 0.05) -> float:
        """The true difference that estimates as precise as this one tell from zero with probability ``power``."""
        return self.half_width(error) + NormalDist().inv_cdf(power) * self.standard_error


def verdict_of(difference: float, p_value: float, *, error: float = 0.05) -> Verdict:
    """In words: better, worse, or not to be told apart at this error."""
    if p_value >= error or difference == 0.0:
        return "cannot tell apart"
    return "better" if difference > 0 else "worse"


def estimate(
    scores: RunScores, weights_R: Array, noise: NoiseModel = UNKNOWN, *, bounds: tuple[float, float] | None = None
) -> Estimate:
    """The weighted sum of the runs' averages. ``noise`` adds what training again moves; UNKNOWN adds nothing.

    ``bounds``: between which the sum lies whatever is answered; by default those of a mean, or of a difference.
    """
    if bounds is None:
        bounds = (-scores.most if (weights_R < 0).any() else 0.0, scores.most)
    parts = [_questions_part(one, weights_R, bounds) for one in scores.benchmarks]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts)
    alike = tuple(
        (one.share * _furthest(one, weights_R, bounds), one.clusters)
        for one in scores.benchmarks
        if _alike(one, weights_R)
    )
    used = Counter(run.design for run, weight in zip(scores.runs, weights_R, strict=True) if weight)
    plain = Estimate(
        mean=float(weights_R @ scores.means),
        standard_error=float(np.sqrt(variance)),
        freedom=max(1.0, variance**2 / below) if below > 0 else float(max(1, scores.clusters - 1)),
        bounds=bounds,
        alike=alike,
        questions=scores.questions,
        clusters=scores.clusters,
        seeds=min(used.values(), default=1),
    )
    return joined(plain, noise.parts(scores, weights_R))


def joined(plain: Estimate, parts: Sequence[tuple[float, float, int]]) -> Estimate:
    """An estimate with further parts of variance: (variance, raw variance, degrees of freedom) each."""
    own = plain.standard_error**2
    variance = own + sum(part[0] for part in parts)
    below = own**2 / plain.freedom + sum(raw**2 / freedom for _, raw, freedom in parts)
    freedom = max(1.0, variance**2 / below) if below > 0 else plain.freedom
    return replace(plain, standard_error=float(np.sqrt(variance)), freedom=freedom)


def _questions_part(one: BenchmarkScores, weights_R: Array, bounds: tuple[float, float]) -> tuple[float, int]:
    """Variance and its degrees of freedom; of a single image the largest variance that there can be."""
    if one.clusters < 2:
        return one.share**2 * _WORST * (bounds[1] - bounds[0]) ** 2, 1
    return one.share**2 * float(np.square(weights_R @ one.residuals_RK).sum()), one.clusters - 1


def _furthest(one: BenchmarkScores, weights_R: Array, bounds: tuple[float, float]) -> float:
    """How far what all clusters score lies from the furthest that another could."""
    value = float((weights_R @ one.values_RK)[0])
    return max(value - bounds[0], bounds[1] - value)


def _alike(one: BenchmarkScores, weights_R: Array) -> bool:
    """Whether the sum is the same for every one of several images."""
    return one.clusters > 1 and bool(np.ptp(weights_R @ one.values_RK) < 1e-12)


def t_tail(value: float, freedom: float) -> float:
    """Probability that Student's t exceeds ``value``."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -value))


def mean_interval(
    values: ArrayLike,
    clusters: Sequence[str] | None = None,
    *,
    weights: ArrayLike | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """The mean of values between ``bounds`` with its interval.

    Args:
        values: N scores, or S x N of the same samples for S training seeds.
        clusters: the image of each sample; None makes each sample its own.
        weights: how much each sample counts in the mean; None makes all count alike.

    Raises RunError: no values, values that are not finite, or numbers of clusters or weights that do not fit.
    """
    rows = table(values)
    scores = _alone([Run("", seed) for seed in range(len(rows))], rows, clusters, weights)
    return estimate(scores, scores.mean_of(""), noise_model(scores), bounds=bounds).interval(confidence)


def compare(
    a: ArrayLike, b: ArrayLike, clusters: Sequence[str] | None = None, *, weights: ArrayLike | None = None
) -> Estimate:
    """Design a less design b on one benchmark: N scores each of the same samples, or S x N of S training seeds.

    Rows of both designs in equal places are taken as trained with the same seed. Raises RunError when the designs have
    unlike numbers of samples, and as ``mean_interval`` does.
    """
    left, right = table(a, "the first design"), table(b, "the second design")
    if left.shape[1] != right.shape[1]:
        raise RunError(f"the designs answered {left.shape[1]} and {right.shape[1]} samples; expected the same samples")
    runs = [Run(name, seed) for name, rows in (("a", left), ("b", right)) for seed in range(len(rows))]
    scores = _alone(runs, np.concatenate([left, right]), clusters, weights)
    return estimate(scores, scores.mean_of("a") - scores.mean_of("b"), noise_model(scores))


def _alone(
    runs: Sequence[Run], values_RN: Array, clusters: Sequence[str] | None, weights: ArrayLike | None
) -> RunScores:
    """Runs of one benchmark."""
    return run_scores(
        runs,
        {"": values_RN},
        clusters=None if clusters is None else {"": clusters},
        weights=None if weights is None else {"": weights},
        shares={"": 1.0},
    )
