"""What each expert adds: the mean gain over all pairs of designs that differ by it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

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
        by_group = {g: _gain(pairs, g) for g in groups}
        found.append(Contribution(expert, _gain(pairs), by_group, len(pairs)))
    return tuple(sorted(found, key=lambda c: -c.gain.mean))


def _adds(more: Recipe, less: Recipe, expert: str) -> bool:
    """Whether ``more`` is ``less`` with this expert added and nothing else changed; one alone needs no fusion."""
    a, b = more.model.encoders, less.model.encoders
    if expert not in a or {name: encoder for name, encoder in a.items() if name != expert} != dict(b):
        return False
    return with_encoders(more, b).digest() == with_encoders(less, b).digest()


def _gain(pairs: Sequence[tuple[Trial, Trial]], group: str | None = None) -> Interval:
    """The mean gain over the pairs, with the interval that the questions alone would give.

    Pairs share questions and often a design, so they are not taken as independent: the interval is as wide as the
    average pair's own. It says nothing of how the gain differs from pair to pair.
    """
    found = [compare_trials([_only(a, group)], [_only(b, group)]).interval for a, b in pairs]
    return Interval(mean(f.mean for f in found), mean(f.low for f in found), mean(f.high for f in found))


def _only(trial: Trial, group: str | None) -> Trial:
    """The trial as if it had been asked the benchmarks of one group alone."""
    if group is None:
        return trial
    return replace(trial, scored={key: s for key, s in trial.scored.items() if s.group == group})
