"""How small a difference a planned study can find."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from ommatidia.eval.statistics.interval import macro_weights

UNLIKE = 0.25
"""Share of the questions that one of two designs nobody has trained is taken to answer rightly and one wrongly."""


def minimum_detectable_difference(
    n: int, variance: float, *, alpha: float = 0.05, power: float = 0.8, seed_variance: float = 0.0, seeds: int = 1
) -> float:
    """The smallest true difference that a two-sided paired test of ``n`` clusters finds with probability ``power``.

    ``variance`` is that of the paired differences of clusters (``Comparison.paired_variance``), ``seed_variance`` that
    of one design's mean over training seeds, ``seeds`` the number of them for each of the two designs.
    """
    quantiles = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return float(quantiles * np.sqrt(variance / n + 2.0 * seed_variance / seeds))


def expected_difference(questions: Mapping[str, int], groups: Mapping[str, str], *, unlike: float = UNLIKE) -> float:
    """What a planned comparison of two designs on these benchmarks can find, as their average by groups goes.

    ``unlike`` is the share of questions that one answers rightly and the other wrongly. Questions count as if each had
    a picture of its own, and training again with another seed as if it gave the same: what is found then is larger.
    """
    weights = macro_weights(list(questions), groups)
    variance = sum(weights[name] ** 2 * unlike / n for name, n in questions.items())
    return minimum_detectable_difference(1, variance)
