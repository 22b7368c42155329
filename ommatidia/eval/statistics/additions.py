"""Does an addition that was picked as the best of several add anything? The decision of a greedy round.

Every addition is compared with the same base, so the statistics are correlated, and the best of them is large by
chance. Dunnett's test (1955, Journal of the American Statistical Association 50) is of the largest of several against
one control. It holds for any way of picking which additions are trained again: whichever is picked, its statistic is
one of those that the test allows for. Training again with fresh seeds is therefore free to follow what looks best.

The rule after each fresh seed has its error stated: an early decision may use a twentieth of the whole error, the last
look has the rest, and the sum is at most the whole. Giving up early never adds error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ommatidia.eval.statistics.estimate import Estimate, estimate
from ommatidia.eval.statistics.interval import Interval
from ommatidia.eval.statistics.noise import NoiseModel
from ommatidia.eval.statistics.run_scores import Array, RunScores

EARLY = 0.05
"""Part of the error that one look before the last may use."""


@dataclass(frozen=True, slots=True)
class Addition:
    """The best addition of a round against its base."""

    gain: Estimate
    p_value: float
    """One-sided, adjusted for all additions that were tried."""
    tried: int
    correlation: float = 0.5
    """Of the statistics of two additions, which share the base."""

    def interval(self, error: float) -> Interval:
        """Of the gain, adjusted for all additions: its lower end is above zero exactly where p is below ``error``.

        Its confidence is 1 - 2 * error, as that of a two-sided interval beside a one-sided test.
        """
        pointwise = pointwise_error(error, self.tried, self.correlation)
        return self.gain.simultaneous(2.0 * pointwise, 1.0 - 2.0 * error)


def judge_addition(scores: RunScores, base: str, best: str, noise: NoiseModel, *, tried: int) -> Addition:
    """Of the best of ``tried`` additions, over all seeds that it and the base have."""
    weights_R = scores.mean_of(best) - scores.mean_of(base)
    gain = estimate(scores, weights_R, noise)
    one_sided = gain.p_value / 2 if gain.mean > 0 else 1.0 - gain.p_value / 2
    runs = scores.designs()
    # The questions move both alike; what the base's fewer or more seeds leave is common to all additions.
    seeds = sum(part[0] for part in noise.parts(scores, weights_R))
    questions = max(gain.standard_error**2 - seeds, 0.0) / 2
    own = [questions + noise.own.variance / len(runs[name]) for name in (base, best)]
    common = own[0] / sum(own) if sum(own) > 0 else 0.5
    return Addition(gain, largest_of(one_sided, tried, common), tried, common)


def largest_of(one_sided: float, count: int, correlation: float) -> float:
    """Adjusted p-value of the largest of ``count`` equally correlated normal statistics, given its own.

    The probability that none exceeds z is the mean over a common normal factor u of Phi((z + sqrt(r) u) / sqrt(1 -
    r))^count; the mean is taken by Gauss-Hermite quadrature.
    """
    from scipy.special import ndtr, ndtri

    if count <= 1:
        return one_sided
    value = float(-ndtri(min(max(one_sided, 1e-300), 1 - 1e-16)))
    nodes, weights = _quadrature()
    none_beyond = ndtr((value + np.sqrt(correlation) * nodes) / np.sqrt(1.0 - correlation)) ** count
    return float(np.clip(1.0 - weights @ none_beyond / np.sqrt(2 * np.pi), 0.0, 1.0))


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Array, Array]:
    """Nodes and weights of the mean over a standard normal value, times the square root of 2 pi."""
    return np.polynomial.hermite_e.hermegauss(64)


def pointwise_error(error: float, count: int, correlation: float) -> float:
    """The p-value of the largest of ``count`` statistics by itself whose adjusted one is ``error``."""
    low, high = 0.0, error
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if largest_of(middle, count, correlation) < error else (low, middle)
    return low


def allowed_error(error: float, look: int, looks: int) -> float:
    """What the look after the ``look``-th of ``looks`` fresh seeds may use of the whole error."""
    return error * EARLY if look < looks else error * (1.0 - EARLY * (looks - 1))
