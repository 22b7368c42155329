"""How a greedy round decides: which additions are trained again with fresh seeds, and whether the best one is kept.

A pure function of the scores so far. The additions that look best after the exploring seed are trained again, one fewer
after each fresh seed, and the base with them: more often than any of them, because all are compared with it (Dunnett
1955: about the square root of their number as often). The test allows for all additions that were tried, so following
what looks best costs nothing (``statistics.additions``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ommatidia.eval.statistics.additions import Addition, allowed_error, judge_addition
from ommatidia.eval.statistics.noise import noise_model
from ommatidia.eval.statistics.run_scores import RunScores


@dataclass(frozen=True, slots=True)
class Step:
    """What a round does next: train again, or end."""

    wanted: Mapping[str, int] | None
    """How many seeds these designs are to have; None: the round is decided."""
    best: str
    addition: Addition
    kept: str | None = None
    behind: bool = False
    """The round ended early, since no addition was ahead of the base any more."""


def next_step(
    scores: RunScores,
    base: str,
    additions: Sequence[str],
    *,
    looks: int,
    contenders: int,
    error: float,
    counts: Mapping[str, int] | None = None,
) -> Step:
    """The step that the runs so far call for. The same runs always call for the same step.

    Args:
        scores: at least the exploring run, the first, of the base and of every addition.
        looks: fresh seeds that an addition may have at most; with none, the exploring seed decides, and what it keeps
            is a lead.
        contenders: additions that are trained again after the exploring seed.
        error: of keeping any addition when none adds anything.
        counts: seeds of designs of earlier rounds to learn the noise from.
    """
    have = {name: len(runs) for name, runs in scores.designs().items()}
    used = {**(counts or {}), base: max(1, (counts or {}).get(base, 1)), **dict.fromkeys(additions, 1)}
    alive = list(additions)
    share = math.ceil(math.sqrt(len(additions)))
    seen, best, addition = _look(scores, used, base, alive, len(additions))
    if looks == 0:
        return Step(None, best, addition, best if addition.p_value < error else None)
    alive = seen[:contenders]
    for look in range(1, looks + 1):
        wanted = {**dict.fromkeys(alive, 1 + look), base: max(used[base], 1 + look * share)}
        if any(have[name] < count for name, count in wanted.items()):
            return Step(wanted, best, addition)
        used |= wanted
        seen, best, addition = _look(scores, used, base, alive, len(additions))
        if addition.p_value < allowed_error(error, look, looks):
            return Step(None, best, addition, best)
        if addition.gain.mean <= 0:
            return Step(None, best, addition, behind=True)
        alive = seen[: max(1, len(alive) - 1)]
    return Step(None, best, addition)


def _look(
    scores: RunScores, used: Mapping[str, int], base: str, alive: Sequence[str], tried: int
) -> tuple[list[str], str, Addition]:
    """The additions still in question from the best on, the best, and its test."""
    known = scores.first(used)
    seen = sorted(alive, key=lambda name: -float(known.mean_of(name) @ known.means))
    return seen, seen[0], judge_addition(known, base, seen[0], noise_model(known), tried=tried)
