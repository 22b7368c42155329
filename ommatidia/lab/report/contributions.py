"""What each expert adds: the mean gain over all pairs of designs that differ by it alone."""

from __future__ import annotations

from collections.abc import Sequence

from ommatidia.eval.statistics import RunScores, noise_model
from ommatidia.eval.statistics.gains import mean_gain
from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.report.model import Contribution, Interval
from ommatidia.lab.run.trial import Trial, scores_of


def contributions(groups: Sequence[Sequence[Trial]]) -> tuple[Contribution, ...]:
    """One entry for each expert that some pair of designs, which answered alike, differs by.

    ``groups``: the finished trials of each design. The interval is over questions, training and the designs of the
    pairs (``statistics.gains``).
    """
    if not groups:
        return ()
    scores = scores_of(trial for group in groups for trial in group)
    asked = {one.benchmark: one.group for one in groups[0][0].full}
    experts = dict.fromkeys(name for group in groups for name in group[0].recipe.model.encoders)
    found = []
    for expert in experts:
        pairs = [
            (more[0].design, less[0].design)
            for more in groups
            for less in groups
            if _adds(more[0].recipe, less[0].recipe, expert)
        ]
        if pairs:
            by_group = {
                group: _gain(scores.only([name for name, of in asked.items() if of == group]), pairs)
                for group in dict.fromkeys(asked.values())
            }
            found.append(Contribution(expert, _gain(scores, pairs), by_group, len(pairs)))
    return tuple(sorted(found, key=lambda c: -c.gain.mean))


def _adds(more: Recipe, less: Recipe, expert: str) -> bool:
    """Whether ``more`` is ``less`` with this expert added and nothing else changed; one alone needs no fusion."""
    a, b = more.model.encoders, less.model.encoders
    if expert not in a or {name: encoder for name, encoder in a.items() if name != expert} != dict(b):
        return False
    same = (with_encoders(more, b).seeded(0), with_encoders(less, b).seeded(0))
    return same[0].digest() == same[1].digest()


def _gain(scores: RunScores, pairs: Sequence[tuple[str, str]]) -> Interval:
    interval = mean_gain(scores, pairs, noise_model(scores)).interval()
    return Interval(interval.mean, interval.low, interval.high)
