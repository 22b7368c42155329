"""From the rounds of a greedy search to those of a report."""

from __future__ import annotations

from collections.abc import Sequence

from ommatidia.lab.report.asked import estimate
from ommatidia.lab.report.model import Candidate, GreedyLook, GreedyRound
from ommatidia.lab.run.trial import Trial, average_of
from ommatidia.lab.search import rounds
from ommatidia.lab.search.greedy import RoundRobin


def greedy_rounds(strategy: RoundRobin, trials: Sequence[Trial]) -> tuple[tuple[GreedyRound, ...], str]:
    """The rounds in which something was tried, and why the search ended (empty where it goes on)."""
    path, _ = strategy.rounds(trials)
    done = {trial.recipe.digest(): trial for trial in trials}
    found, stop = [], ""
    for number, one in enumerate(path, start=1):
        if one.kept is None:
            stop = one.reason
        if not one.tried:
            continue
        error = (one.looks[-1].error if one.looks else 0.0) or 1.0 - strategy.confidence
        before = done.get(strategy.design(one.base).digest()) if one.base else None
        found.append(
            GreedyRound(
                number,
                one.base,
                estimate(average_of([before])) if before else None,
                tuple(_candidate(each, one.kept, error) for each in one.tried),
                one.reason,
                one.decision,
                tuple(_look(look) for look in one.looks),
                1.0 - 2.0 * error,
            )
        )
    return tuple(found), stop


def _candidate(one: rounds.Candidate, kept: str | None, error: float) -> Candidate:
    average, gain = estimate(average_of([one.trial])), one.gain
    if gain is None:
        return Candidate(one.expert, average, None, one.expert == kept, one.runs)
    interval = estimate(gain.interval(error))
    return Candidate(one.expert, average, interval, one.expert == kept, one.runs, gain.p_value)


def _look(one: rounds.Look) -> GreedyLook:
    return GreedyLook(one.expert, one.addition.gain.mean, one.addition.p_value, one.error, one.runs, one.base_runs)
