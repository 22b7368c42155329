"""Many designs at once: which of them are behind the best, without blaming chance or the choice of the best.

The design that scores highest was chosen by the very answers that the others are compared on. Adjusting for as many
comparisons as there are rows is not enough then: any two designs may turn out to be the best and the one behind. So
the largest of all pairwise statistics decides (Tukey's range, by simulation for unequal variances and correlated
designs; Hothorn, Bretz and Westfall 2008, Biometrical Journal 50): its distribution under equality is drawn from the
joint normal distribution of the designs' means, and a pair's p-value is the share of draws with a larger maximum.
Adjusted p-values and simultaneous intervals come from the same draws and cannot disagree. Pairs of which the answers
show no variance (all questions tell them apart alike) take no part in the draws; where there are some, half of the
error is theirs, divided among them (Bonferroni).

Letters: D designs, P pairs, T draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.estimate import Estimate, Verdict, estimate, verdict_of
from ommatidia.eval.statistics.interval import Interval
from ommatidia.eval.statistics.noise import UNKNOWN, NoiseModel
from ommatidia.eval.statistics.run_scores import Array, RunScores

DRAWS = 4000
_NOTHING = 1e-9
"""A difference of scores below this is rounding."""


@dataclass(frozen=True, slots=True)
class Adjusted:
    """One of several comparisons, adjusted for all of them."""

    estimate: Estimate
    p_value: float
    interval: Interval
    """Holds together with those of all other pairs."""

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.estimate.mean, self.p_value, error=1.0 - self.interval.confidence)


def compare_to(
    scores: RunScores,
    reference: str,
    noise: NoiseModel = UNKNOWN,
    *,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Adjusted]:
    """Every other design less the ``reference``, adjusted for all pairs of designs, since the reference was chosen.

    Raises RunError when no run is of the reference.
    """
    names = list(scores.designs())
    if reference not in names:
        raise RunError(f"no run of the design {reference!r}")
    largest_T, unanimous = _largest(scores, names, noise, draws, seed)
    level = _level(largest_T, unanimous, 1.0 - confidence)
    found = {}
    for name in names:
        if name == reference:
            continue
        one = estimate(scores, scores.mean_of(name) - scores.mean_of(reference), noise)
        p_value = _adjusted(one.p_value, largest_T, unanimous)
        found[name] = Adjusted(one, p_value, one.simultaneous(level, confidence))
    return found


def _largest(scores: RunScores, names: Sequence[str], noise: NoiseModel, draws: int, seed: int) -> tuple[Array, int]:
    """Sorted, T draws of the largest standardised difference between any two designs that are equal; and how many
    pairs differ without showing any variance."""
    means_DR = np.stack([scores.mean_of(name) for name in names])
    joint_RR = scores.covariance() + noise.covariance(scores)
    covariance_DD = means_DR @ joint_RR @ means_DR.T
    first, second, deviation_P = _pairs(covariance_DD)
    means_D = means_DR @ scores.means
    unanimous = (deviation_P <= _NOTHING) & (np.abs(means_D[first] - means_D[second]) > _NOTHING)
    largest_T = np.sort(largest_of_pairs(covariance_DD, draws, np.random.default_rng(seed)))
    return largest_T, int(unanimous.sum())


def _pairs(covariance_DD: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Every pair of designs, by their positions, and the standard deviation of their difference."""
    first, second = np.triu_indices(len(covariance_DD), 1)
    variance_D = np.diag(covariance_DD)
    variance_P = variance_D[first] + variance_D[second] - 2 * covariance_DD[first, second]
    return first, second, np.sqrt(np.maximum(variance_P, 0.0))


def largest_of_pairs(covariance_DD: Array, draws: int, rng: np.random.Generator) -> Array:
    """T draws of the largest |x_i - x_j| / its standard deviation, of normal x with this covariance."""
    first, second, deviation_P = _pairs(covariance_DD)
    known_P = deviation_P > _NOTHING
    if not known_P.any():
        return np.zeros(draws)
    first, second, deviation_P = first[known_P], second[known_P], deviation_P[known_P]
    draws_TD = normal_draws(covariance_DD, draws, rng)
    largest_T = np.zeros(draws)
    step = max(1, 2_000_000 // len(first))
    for start in range(0, draws, step):
        part = draws_TD[start : start + step]
        largest_T[start : start + step] = (np.abs(part[:, first] - part[:, second]) / deviation_P).max(1)
    return largest_T


def normal_draws(covariance_DD: Array, draws: int, rng: np.random.Generator) -> Array:
    """T x D draws with mean zero; a covariance that is singular will do."""
    sizes_D, axes_DD = np.linalg.eigh((covariance_DD + covariance_DD.T) / 2)
    root_DD = axes_DD * np.sqrt(np.maximum(sizes_D, 0.0))
    return rng.standard_normal((draws, len(covariance_DD))) @ root_DD.T


def _adjusted(p_value: float, largest_T: Array, unanimous: int) -> float:
    """The share of draws whose largest statistic is as unlikely as this pair's, on the scale of p-values."""
    beyond = len(largest_T) - np.searchsorted(largest_T, normal_value(p_value), side="left")
    adjusted = max(p_value, float(1 + beyond) / (1 + len(largest_T)))
    return min(1.0, 2.0 * max(adjusted, unanimous * p_value)) if unanimous else adjusted


def _level(largest_T: Array, unanimous: int, error: float) -> float:
    """The largest pointwise p-value whose adjusted one is below ``error``."""
    error = error / 2 if unanimous else error
    allowed = int(np.ceil(error * (1 + len(largest_T)) - 1)) - 1
    drawn = two_sided(float(largest_T[len(largest_T) - 1 - max(allowed, 0)]))
    return min(error, drawn, error / unanimous if unanimous else error)


def normal_value(p_value: float) -> float:
    """The standard normal value that is exceeded to either side with this probability."""
    from scipy.special import ndtri

    return float(-ndtri(max(p_value, 1e-300) / 2))


def two_sided(value: float) -> float:
    """The probability that a standard normal value is further from zero than this one."""
    from scipy.special import ndtr

    return 2.0 * float(ndtr(-abs(value)))
