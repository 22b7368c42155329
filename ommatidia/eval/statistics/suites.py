"""Averages and comparisons of scored benchmarks: what a search decides on and a report prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.comparison import Comparison, compare_macro
from ommatidia.eval.statistics.interval import Interval, macro_interval, macro_weights
from ommatidia.eval.statistics.resampling import RESAMPLES, Array

if TYPE_CHECKING:
    from ommatidia.eval.scored import Scored


def macro_mean(means: Mapping[str, float], groups: Mapping[str, str]) -> float:
    """The number that ranks designs: the mean over groups of the mean over each group's benchmarks (Cambrian-1,
    section 4). Both by benchmark. Raises RunError without benchmarks, or when one has no group."""
    weights = macro_weights(list(means), groups)
    return sum(weights[name] * mean for name, mean in means.items())


def macro_average(
    scored: Iterable[Scored],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The average of one design as ``macro_mean`` defines it, with its interval.

    Several results of one benchmark are training seeds, in the same order for each benchmark. Raises RunError when
    they answered unlike samples, or benchmarks have unlike numbers of seeds.
    """
    scored = list(scored)
    return macro_interval(
        seeds_by_benchmark(scored),
        clusters={one.benchmark: one.clusters for one in scored},
        weights={one.benchmark: one.weights for one in scored},
        groups={one.benchmark: one.group for one in scored},
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def group_averages(
    scored: Iterable[Scored], *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """The mean over the benchmarks of each group, in the order groups first appear."""
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        groups.setdefault(one.group, []).append(one)
    return {
        group: macro_average(inside, confidence=confidence, resamples=resamples, seed=seed)
        for group, inside in groups.items()
    }


def compare_suites(
    a: Sequence[Iterable[Scored]],
    b: Sequence[Iterable[Scored]],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Design a against design b on the average over benchmarks; each is a list of suites, one a training seed.

    Raises RunError when benchmarks, samples, modes, scorers or judges differ.
    """
    left, right = ([one for suite in side for one in suite] for side in (a, b))
    reference = {one.benchmark: one for one in (*left, *right)}
    for one in (*left, *right):
        _same_question(one, reference[one.benchmark])
    return compare_macro(
        seeds_by_benchmark(left),
        seeds_by_benchmark(right),
        clusters={name: one.clusters for name, one in reference.items()},
        weights={name: one.weights for name, one in reference.items()},
        groups={name: one.group for name, one in reference.items()},
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def seeds_by_benchmark(scored: Sequence[Scored]) -> dict[str, Array]:
    """S x N values by benchmark, from one design's results. Raises RunError when seeds answered unlike samples."""
    found: dict[str, list[Scored]] = {}
    for one in scored:
        found.setdefault(one.benchmark, []).append(one)
        _same_question(one, found[one.benchmark][0])
    return {name: np.stack([one.values for one in several]) for name, several in found.items()}


def _same_question(one: Scored, other: Scored) -> None:
    for what in ("mode", "scorer", "scorer_version", "judge", "ids"):
        if getattr(one, what) != getattr(other, what):
            detail = "samples" if what == "ids" else f"{what} {getattr(one, what)!r} and {getattr(other, what)!r}"
            raise RunError(f"{one.benchmark}: cannot compare results of unlike {detail}")
