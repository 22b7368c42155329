"""What each expert adds: the mean gain over all pairs of designs that differ by it alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.report.model import Contribution, Interval
from ommatidia.lab.trial import Trial, compare_trials


def contributions(trials: Sequence[Trial]) -> tuple[Contribution, ...]:
    """One entry for each expert that some pair of trials (same seed, same everything else) differs by."""
    working = [t for t in trials if not t.error]
    experts = dict.fromkeys(name for t in working for name in t.recipe.model.encoders)
    found = []
    for expert in experts:
        pairs = [(a, b) for a in working for b in working if _adds(a.recipe, b.recipe, expert)]
        if not pairs:
            continue
        groups = dict.fromkeys(s.group for a, _ in pairs for s in a.full)
        by_group = {g: _mean([_group_mean(a, g) - _group_mean(b, g) for a, b in pairs]) for g in groups}
        found.append(Contribution(expert, _gain(pairs), by_group, len(pairs)))
    return tuple(sorted(found, key=lambda c: -c.gain.mean))


def _adds(more: Recipe, less: Recipe, expert: str) -> bool:
    """Whether ``more`` is ``less`` with this expert added and nothing else changed; one alone needs no fusion."""
    a, b = more.model.encoders, less.model.encoders
    if expert not in a or {name: encoder for name, encoder in a.items() if name != expert} != dict(b):
        return False
    return with_encoders(more, b).digest() == with_encoders(less, b).digest()


def _gain(pairs: Sequence[tuple[Trial, Trial]]) -> Interval:
    """With one pair the paired interval of its questions; with several, the spread between pairs as well."""
    single = [compare_trials([a], [b]) for a, b in pairs]
    if len(single) == 1:
        gap = single[0].interval
        return Interval(gap.mean, gap.low, gap.high)
    return _mean([c.difference for c in single])


def _group_mean(trial: Trial, group: str) -> float:
    return mean(s.mean for s in trial.full if s.group == group)


def _mean(values: Sequence[float]) -> Interval:
    """Mean and Student's t interval over pairs; no interval for one pair."""
    if len(values) < 2:
        return Interval(values[0])
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return Interval(mean(values), mean(values) - half, mean(values) + half)
