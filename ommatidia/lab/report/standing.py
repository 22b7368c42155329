"""How the designs of a table stand: each one's score, and each against the best, all by one noise model.

Every variance of training is that of the whole table, so that a design with one seed borrows it. In a design's own
score, runs with the seeds by which a search chose its finalists are left out where it has others; the best design's
interval is corrected for having been chosen among the finalists. Differences are over all seeds: their adjustment for
all pairs allows for whichever was chosen to be trained again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics import Interval, NoiseModel, RunScores, estimate, noise_model
from ommatidia.eval.statistics.noise import UNKNOWN
from ommatidia.eval.statistics.ranking import Adjusted, compare_to
from ommatidia.eval.statistics.selection import chosen_interval
from ommatidia.lab.run.trial import Trial, average_of, scores_of

Group = Sequence[Trial]


@dataclass(frozen=True, slots=True)
class Standing:
    """By design, as ``Trial.design`` names it."""

    averages: Mapping[str, Interval]
    benchmarks: Mapping[str, Mapping[str, Interval]]
    against_best: Mapping[str, Adjusted]
    """Less the best design, adjusted for all pairs of the table; without designs that were asked other questions."""
    compared: frozenset[str] = frozenset()
    """Designs that were asked the same questions as the best, itself among them."""
    noise: NoiseModel = UNKNOWN
    candidates: int = 0
    """Designs among which the best was chosen."""
    corrected: Interval | None = None
    """The best design's score, corrected for its having been chosen; its average is the score as observed."""


def standing_of(working: Sequence[Group], finals: Sequence[Group], best: Group, choosing: Sequence[int]) -> Standing:
    """From the trials of each design that worked; ``finals`` are those among which ``best`` was chosen."""
    if not best:
        return Standing({}, {}, {})
    name = best[0].design
    alike = [group for group in working if _alike(group, best)]
    every = scores_of(trial for group in alike for trial in group)
    fresh, noise = every.without_seeds(choosing), noise_model(every)
    averages = {group[0].design: average_of(group) for group in working if group not in alike}
    benchmarks = {group[0].design: _alone(group) for group in working if group not in alike}
    for group in alike:
        mean_R = fresh.mean_of(group[0].design)
        averages[group[0].design] = estimate(fresh, mean_R, noise).interval()
        benchmarks[group[0].design] = {}
    for one in every.benchmarks:
        own, own_noise = fresh.only([one.name]), noise_model(every.only([one.name]))
        for group in alike:
            design = group[0].design
            benchmarks[design][one.name] = estimate(own, own.mean_of(design), own_noise).interval()
    rivals = [group[0].design for group in finals if group in alike and group[0].design != name]
    corrected = _corrected(fresh, name, rivals, noise)
    observed = averages[name].mean
    averages[name] = replace(corrected, mean=observed, high=max(corrected.high, observed))
    compared = frozenset(group[0].design for group in alike)
    against = compare_to(every, name, noise)
    return Standing(averages, benchmarks, against, compared, noise, 1 + len(rivals), corrected)


def _corrected(scores: RunScores, best: str, rivals: Sequence[str], noise: NoiseModel) -> Interval:
    """What the design scores, between bounds that hold although it was chosen for its score."""
    mean_R = scores.mean_of(best)
    won_WR = np.array([mean_R - scores.mean_of(rival) for rival in rivals]).reshape(len(rivals), len(mean_R))
    return chosen_interval(scores, mean_R, won_WR, noise)


def _alike(group: Group, best: Group) -> bool:
    """Whether a design was asked what the best one was."""
    try:
        scores_of([group[0], *([best[0]] if group[0].address != best[0].address else [])])
    except RunError:
        return False
    return True


def _alone(group: Group) -> dict[str, Interval]:
    """Each benchmark of a design that nothing of the table is comparable with."""
    scores = scores_of(group)
    found = {}
    for one in scores.benchmarks:
        own = scores.only([one.name])
        found[one.name] = estimate(own, own.mean_of(group[0].design), noise_model(own)).interval()
    return found
