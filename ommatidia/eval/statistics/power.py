"""How small a difference a planned study can find."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np


def minimum_detectable_difference(
    n: int, variance: float, *, alpha: float = 0.05, power: float = 0.8, seed_variance: float = 0.0, seeds: int = 1
) -> float:
    """The smallest true difference that a two-sided paired test of ``n`` clusters finds with probability ``power``.

    ``variance`` is that of the paired differences of clusters (``Comparison.paired_variance``), ``seed_variance`` that
    of one design's mean over training seeds, ``seeds`` the number of them for each of the two designs.
    """
    quantiles = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return float(quantiles * np.sqrt(variance / n + 2.0 * seed_variance / seeds))
