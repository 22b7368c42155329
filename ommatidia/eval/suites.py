"""Scored benchmarks as runs: what a search decides on and a report prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ommatidia.core.errors import RunError
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.scorer import ScorerConfig
from ommatidia.eval.statistics import (
    Attribution,
    Estimate,
    Interval,
    Run,
    RunScores,
    attribution,
    estimate,
    macro_weights,
    noise_model,
    run_scores,
)

_ALIKE = ("mode", "scorer", "scorer_version", "judge", "ids")


def suite_scores(suites: Mapping[Run, Iterable[Scored]], *, alike: Sequence[str] = _ALIKE) -> RunScores:
    """The scores of runs, each of which was asked the same benchmarks; they are averaged as ``macro_mean`` does.

    Raises RunError when benchmarks, or of any of them what ``alike`` names, differ.
    """
    asked = {run: {one.benchmark: one for one in suite} for run, suite in suites.items()}
    first = next(iter(asked.values()), {})
    for suite in asked.values():
        if suite.keys() != first.keys():
            raise RunError(f"the designs have unlike benchmarks: {sorted(suite.keys() ^ first.keys())}")
        for name, one in suite.items():
            _check_alike(one, first[name], alike)
    return run_scores(
        list(asked),
        {name: np.stack([suite[name].values for suite in asked.values()]) for name in first},
        clusters={name: one.clusters for name, one in first.items()},
        weights={name: [suite[name].weights for suite in asked.values()] for name in first},
        most={name: _most(one) for name, one in first.items()},
        shares=macro_weights(list(first), {name: one.group for name, one in first.items()}),
    )


def macro_average(scored: Iterable[Scored], *, confidence: float = 0.95) -> Interval:
    """The average over one model's benchmarks as ``macro_mean`` defines it, with its interval. Raises RunError."""
    scores = suite_scores({Run("", 0): scored})
    return estimate(scores, scores.mean_of("")).interval(confidence)


def group_averages(scored: Iterable[Scored], *, confidence: float = 0.95) -> dict[str, Interval]:
    """The mean over the benchmarks of each group, in the order groups first appear."""
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        groups.setdefault(one.group, []).append(one)
    return {group: macro_average(inside, confidence=confidence) for group, inside in groups.items()}


def compare_suites(a: Sequence[Iterable[Scored]], b: Sequence[Iterable[Scored]]) -> Estimate:
    """Design a less design b on the average over benchmarks; each is a list of suites, one a training seed.

    Raises RunError as ``suite_scores`` does.
    """
    runs = {Run(name, seed): suite for name, suites in (("a", a), ("b", b)) for seed, suite in enumerate(suites)}
    scores = suite_scores(runs)
    return estimate(scores, scores.mean_of("a") - scores.mean_of("b"), noise_model(scores))


def attribute(
    full: Iterable[Scored], ablations: Mapping[str, Iterable[Scored]], *, experts: Sequence[str]
) -> Attribution:
    """What is lost under each ablation, of one or more benchmarks, averaged as designs are: see ``attribution``.

    An ablation may be another mode. Raises RunError when benchmarks or samples differ.
    """
    suites = {Run("", 0): full} | {Run(name, 0): suite for name, suite in ablations.items()}
    return attribution(suite_scores(suites, alike=("ids",)), "", experts=experts)


def _most(one: Scored) -> float:
    """What a question of a benchmark can score at most, as its scorer says."""
    kinds = ScorerConfig.kinds()
    return kinds[one.scorer].most if one.scorer in kinds else max(1.0, float(max(one.values, default=1.0)))


def signature(suite: Iterable[Scored]) -> tuple[object, ...]:
    """What the scores of one model must share with another's to be compared with them."""
    return tuple((one.benchmark, *(getattr(one, what) for what in _ALIKE)) for one in suite)


def difference(suite: Iterable[Scored], other: Iterable[Scored]) -> str:
    """Why two suites cannot be compared, in words; empty where they can."""
    try:
        suite_scores({Run("a", 0): suite, Run("b", 0): other})
    except RunError as error:
        return str(error)
    return ""


def _check_alike(one: Scored, other: Scored, alike: Sequence[str]) -> None:
    for what in alike:
        if getattr(one, what) != getattr(other, what):
            detail = "samples" if what == "ids" else f"{what} {getattr(one, what)!r} and {getattr(other, what)!r}"
            raise RunError(f"{one.benchmark}: cannot compare results of unlike {detail}")
