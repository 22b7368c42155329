"""The score of a design that was chosen because it scored highest.

The highest of many noisy numbers is too high, and its usual interval misses the truth more often than it says. Given
that the chosen design won its comparisons, its observed mean follows a normal distribution cut off where it would have
lost (the polyhedral lemma; Lee, Sun, Sun and Taylor 2016, Annals of Statistics 44). The bounds are the true means at
which the observed one would be too high, or too low, for that distribution; the estimate is the true mean at which it
would be its median. A narrow victory can make such an interval very long, so it is confined to the one that holds for
all candidates at once (the hybrid of Andrews, Kitagawa and McCloskey 2024, Inference on Winners, QJE 139).

Letters: R runs, W comparisons won, D designs, C means that round to the observed ones.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from ommatidia.eval.statistics.estimate import estimate
from ommatidia.eval.statistics.interval import Interval, t_quantile
from ommatidia.eval.statistics.noise import UNKNOWN, NoiseModel
from ommatidia.eval.statistics.ranking import normal_draws
from ommatidia.eval.statistics.run_scores import Array, RunScores

_CONFINED = 0.1
"""Part of the error that is spent on confining the interval (the papers' recommendation)."""

_TRIES, _KEPT = 400, 16


def chosen_interval(
    scores: RunScores,
    weights_R: Array,
    won_WR: Array,
    noise: NoiseModel = UNKNOWN,
    *,
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """Of a design's mean, given that it won.

    Args:
        weights_R: the mean whose truth is asked for, as weights of runs.
        won_WR: for each comparison won, the winner's weights less the loser's, by which it was won.

    The interval's ``mean`` is the corrected estimate, at or below the observed mean. Without comparisons it is the
    usual interval.
    """
    plain = estimate(scores, weights_R, noise)
    if len(won_WR) == 0 or plain.standard_error == 0.0:
        return plain.interval(confidence)
    error = 1.0 - confidence
    # Few degrees of freedom make the variance itself uncertain: widen it as Student's t widens the usual interval.
    widened = (t_quantile(error / 2, plain.freedom) / NormalDist().inv_cdf(error / 2)) ** 2
    covariance_RR = widened * (scores.covariance() + noise.covariance(scores))
    deviation = float(np.sqrt(weights_R @ covariance_RR @ weights_R))
    value_C, low_C, high_C = np.array([
        (float(weights_R @ means_R), *_cut(means_R, covariance_RR, weights_R, won_WR))
        for means_R in _between_steps(scores, won_WR, np.random.default_rng(seed))
    ]).T  # fmt: skip
    confined = error * _CONFINED
    reach = _reach(covariance_RR, weights_R, won_WR, confined, draws, seed) * deviation
    inner = (error - confined) / (1.0 - confined)

    def beyond(truth: float) -> float:
        """How likely a smaller mean than the observed one is, if this were the truth."""
        inside_C = np.maximum(low_C, truth - reach), np.minimum(high_C, truth + reach)
        return float(_share_below(value_C, truth, deviation, *inside_C).mean())

    bounds = plain.mean - reach, plain.mean + reach
    found = [_solve(beyond, share, *bounds) for share in (1 - inner / 2, 0.5, inner / 2)]
    least, middle, most = (min(scores.most, max(0.0, value)) for value in found)
    middle = min(middle, plain.mean)  # having won never speaks for more than was observed
    least, most = min(least, middle), max(most, middle)
    return Interval(middle, least, most, confidence, plain.questions, plain.clusters, plain.seeds)


def _between_steps(scores: RunScores, won_WR: Array, rng: np.random.Generator) -> list[Array]:
    """Means that round to the observed ones and win the same comparisons.

    A mean of right and wrong answers moves in steps of one question. A tie is then no victory by nothing but by less
    than a step: taken literally, it would put the observed mean at the very edge of where it wins.
    """
    kept: list[Array] = []
    for _ in range(_TRIES):
        means_R = np.zeros(len(scores.runs))
        for one in scores.benchmarks:
            means_R += one.share * (one.means_R + rng.uniform(-0.5, 0.5, len(means_R)) / one.questions)
        if (won_WR @ means_R >= 0).all():
            kept.append(means_R)
        if len(kept) == _KEPT:
            break
    return kept or [scores.means]


def _cut(means_R: Array, covariance_RR: Array, weights_R: Array, won_WR: Array) -> tuple[float, float]:
    """Between which values the observed mean could have moved, all else equal, without losing a comparison."""
    along_R = covariance_RR @ weights_R / float(weights_R @ covariance_RR @ weights_R)
    rest_R = means_R - along_R * float(weights_R @ means_R)
    slope_W, offset_W = won_WR @ along_R, won_WR @ rest_R
    up, down = slope_W > 1e-12, slope_W < -1e-12
    low = float(np.max(-offset_W[up] / slope_W[up], initial=-np.inf))
    high = float(np.min(-offset_W[down] / slope_W[down], initial=np.inf))
    return low, high


def _reach(covariance_RR: Array, weights_R: Array, won_WR: Array, error: float, draws: int, seed: int) -> float:
    """Standard deviations within which every candidate's mean lies of its truth, but for ``error``."""
    # A loser's weights are the winner's less what it was beaten by.
    candidates_DR = np.concatenate([weights_R[None], weights_R[None] - won_WR])
    covariance_DD = candidates_DR @ covariance_RR @ candidates_DR.T
    drawn_TD = normal_draws(covariance_DD, draws, np.random.default_rng(seed))
    deviation_D = np.sqrt(np.maximum(np.diag(covariance_DD), 1e-18))
    return float(np.quantile(np.abs(drawn_TD / deviation_D).max(1), 1.0 - error))


def _share_below(value_C: Array, truth: float, deviation: float, low_C: Array, high_C: Array) -> Array:
    """The distribution functions of normal values with mean ``truth`` that are known to lie between two bounds."""
    from scipy.special import log_ndtr

    a_C, x_C, b_C = ((bound_C - truth) / deviation for bound_C in (low_C, value_C, high_C))
    above_C = a_C > 0  # the upper tail keeps its precision
    a_C, x_C, b_C = np.where(above_C, -b_C, a_C), np.where(above_C, -x_C, x_C), np.where(above_C, -a_C, b_C)
    share_C = _between(log_ndtr(a_C), log_ndtr(x_C), log_ndtr(b_C))
    share_C = np.where(above_C, 1.0 - share_C, share_C)
    return np.where(value_C <= low_C, 0.0, np.where(value_C >= high_C, 1.0, share_C))


def _between(a_C: Array, x_C: Array, b_C: Array) -> Array:
    """(e^x - e^a) / (e^b - e^a)."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # where the value lies outside the bounds
        bottom_C = -np.expm1(a_C - b_C)
        share_C = np.exp(x_C - b_C) * -np.expm1(a_C - x_C) / bottom_C
    return np.where(bottom_C > 0, share_C, 0.5)


def _solve(share: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The truth at which the share is ``target``; the share falls as the truth grows."""
    for _ in range(32):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) > target else (low, middle)
    return (low + high) / 2
