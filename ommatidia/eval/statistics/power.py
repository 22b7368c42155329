"""How small a difference a planned study can find, by the test that will be made of it (``estimate``).

The variance of a difference has a part of the questions and a part of the seeds. The test estimates the seeds' part:
the mean square between runs of one design, less what the questions explain, and not below zero. How this estimate
varies from study to study (chi-square) moves the test's half-width and its degrees of freedom, so the power is a mean
over it. The smallest difference with the wanted power is found by bisection.

Questions. Two runs answer a question rightly or wrongly, half of them rightly. How often two runs differ says how
their answers correlate; questions on one image are alike with an intra-class correlation. Both are taken as correlated
normal values behind right and wrong (Kendall and Stuart, Advanced Theory of Statistics 1, section 15.6: the tetrachoric
correlation, 2 / pi * asin), which gives the correlation of two runs' answers to two questions on one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.interval import macro_weights
from ommatidia.eval.statistics.noise import SHARED_FROM
from ommatidia.eval.statistics.run_scores import Array

UNLIKE = 0.25
"""Share of the questions that one of two designs nobody has trained is taken to answer rightly and one wrongly."""

RETRAINED = 0.17
"""The same of two seeds of one design."""

ALIKE = 0.3
"""Correlation of right and wrong between two questions on one image that is taken where nothing is known."""

_POINTS = 200


@dataclass(frozen=True, slots=True)
class _Part:
    """What the questions of one benchmark add: to the difference, and to the spread of runs of one design."""

    difference: float
    spread: float
    images: int


def minimum_detectable_difference(
    n: int,
    variance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    seed_variance: float = 0.0,
    seeds: int = 1,
    designs: int = 2,
) -> float:
    """The smallest true difference that a two-sided paired test of ``n`` clusters finds with probability ``power``.

    Args:
        variance: of the paired differences of clusters, averaged over the seeds.
        seed_variance: of one design's score over training seeds, by training alone.
        seeds: of each of the two designs.
        designs: with as many seeds, which together tell the variance over seeds.

    Raises RunError where a seed variance is given and one seed a design cannot tell it.
    """
    return _detectable([_Part(variance / n, 0.0, n)], seed_variance, seeds, designs, alpha, power)


def expected_difference(
    questions: Mapping[str, int],
    groups: Mapping[str, str],
    *,
    images: Mapping[str, int] | None = None,
    alike: float = ALIKE,
    unlike: float = UNLIKE,
    retrained: float = RETRAINED,
    seed_deviation: float = 0.0,
    seeds: int = 1,
    designs: int = 2,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """What a planned comparison of two designs on these benchmarks can find, as their average by groups goes.

    Args:
        images: of each benchmark; one without has an image of its own for each question.
        alike: correlation of right and wrong between two questions on one image.
        unlike: share of questions that one design answers rightly and the other wrongly, ``retrained`` of two seeds.
        seed_deviation: of one design's score over training seeds, by training alone; a fraction.
        seeds, designs: as ``minimum_detectable_difference`` takes them.

    Raises RunError as it does, and for shares or correlations that cannot be.
    """
    if not 0 < retrained <= unlike <= 0.5:
        raise RunError(f"expected 0 < retrained <= unlike <= 0.5, got retrained {retrained} and unlike {unlike}")
    if not 0 <= alike < 1:
        raise RunError(f"alike: expected a correlation from 0 up to 1, got {alike}")
    shares = macro_weights(list(questions), groups)
    parts = []
    for name, count in questions.items():
        images_here = min((images or {}).get(name, count), count)
        difference, spread = _variances(count / images_here, alike, unlike, retrained, seeds)
        parts.append(_Part(shares[name] ** 2 * difference / count, shares[name] ** 2 * spread / count, images_here))
    return _detectable(parts, seed_deviation**2, seeds, designs, alpha, power)


def _variances(an_image: float, alike: float, unlike: float, retrained: float, seeds: int) -> tuple[float, float]:
    """Per question: the variance of the difference of two designs' means over seeds, and that of a run around the mean
    of its design, both with the other questions on its image."""
    one, again, other = 1.0, 1.0 - 2.0 * retrained, 1.0 - 2.0 * unlike
    across = [_across(correlation, alike) for correlation in (one, again, other)]
    same = (one, again, other)

    def with_others(weights: Sequence[float]) -> float:
        within, between = (sum(w * c for w, c in zip(weights, part, strict=True)) for part in (same, across))
        return 0.25 * (within + (an_image - 1.0) * between)

    return with_others((2.0 / seeds, 2.0 * (seeds - 1) / seeds, -2.0)), with_others((1.0, -1.0, 0.0))


def _across(correlation: float, alike: float) -> float:
    """Correlation of two runs' answers to two questions on one image, where their answers to one question correlate so
    and one run's answers to two questions on an image are ``alike``."""
    behind = np.sin(np.pi / 2 * correlation) * np.sin(np.pi / 2 * alike)
    return float(2 / np.pi * np.arcsin(behind))


def _detectable(
    parts: Sequence[_Part], seed_variance: float, seeds: int, designs: int, alpha: float, power: float
) -> float:
    if seeds == 1 and seed_variance > 0:
        raise RunError(
            "one seed a design cannot tell what training again changes: plan several seeds, or a seed deviation of 0, "
            "which asks about these trained models alone"
        )
    questions = sum(part.difference for part in parts)
    below = sum(part.difference**2 / max(part.images - 1, 1) for part in parts)
    freedom = (designs if designs < SHARED_FROM else designs - 1) * (seeds - 1)
    variance = questions + 2.0 * seed_variance / seeds
    reach_P = _reach(questions, below, seed_variance, sum(part.spread for part in parts), seeds, freedom, alpha)
    return _least(reach_P, float(np.sqrt(variance)), power)


def _reach(
    questions: float, below: float, seed_variance: float, spread: float, seeds: int, freedom: int, alpha: float
) -> Array:
    """Half-widths of the test's interval, one for each of equally likely estimates of the seeds' part."""
    from scipy.special import chdtri, stdtrit

    estimated_P, raw_P = np.zeros(1), np.zeros(1)
    if freedom > 0:
        likely_P = (np.arange(_POINTS) + 0.5) / _POINTS
        raw_P = (seed_variance + spread) * chdtri(freedom, likely_P) / freedom
        estimated_P = np.maximum(raw_P - spread, 0.0)
    variance_P = questions + 2.0 * estimated_P / seeds
    below_P = below + (2.0 * raw_P / seeds) ** 2 / max(freedom, 1)
    freedom_P = np.maximum(1.0, variance_P**2 / np.maximum(below_P, 1e-300))
    return -stdtrit(freedom_P, alpha / 2) * np.sqrt(variance_P)


def _least(reach_P: Array, deviation: float, power: float) -> float:
    """The difference whose estimates, spread by ``deviation``, lie beyond half-widths like these with this power."""
    from scipy.special import ndtr

    if deviation == 0.0:
        return float(reach_P.max())
    low, high = 0.0, float(reach_P.max()) + deviation * NormalDist().inv_cdf(max(power, 0.5)) + deviation
    for _ in range(60):
        middle = (low + high) / 2
        found = float(np.mean(ndtr((middle - reach_P) / deviation) + ndtr((-middle - reach_P) / deviation)))
        low, high = (middle, high) if found < power else (low, middle)
    return high
