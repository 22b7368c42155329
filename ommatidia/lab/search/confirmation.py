"""How a greedy round decides: which additions are trained again with fresh seeds, and whether the best one is kept.

A pure function of the scores so far. The additions that look best after the exploring seed are trained again, one fewer
after each fresh seed, and the base with them: more often than any of them, because all are compared with it (Dunnett
1955: about the square root of their number as often). The test allows for all additions that were tried, so following
what looks best costs nothing (``statistics.additions``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ommatidia.eval.statistics.additions import Addition, allowed_error, judge_addition
from ommatidia.eval.statistics.noise import noise_model
from ommatidia.eval.statistics.run_scores import RunScores


@dataclass(frozen=True, slots=True)
class Look:
    """The test of the best addition after some fresh seeds."""

    counts: Mapping[str, int]
    """The runs of each design that it rests on; a later run of the same designs does not change it."""
    best: str
    addition: Addition
    error: float
    """What this look may spend: an addition with a smaller p-value is kept. 0 where it only says what to train."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a round does next: train again, or end."""

    wanted: Mapping[str, int] | None
    """How many seeds these designs are to have; None: the round is decided."""
    looks: tuple[Look, ...]
    """From the exploring seed on; never empty."""
    kept: str | None = None
    behind: bool = False
    """The round ended early, since no addition was ahead of the base any more."""

    @property
    def last(self) -> Look:
        return self.looks[-1]


def next_step(
    scores: RunScores,
    base: str,
    additions: Sequence[str],
    *,
    looks: int,
    contenders: int,
    error: float,
    counts: Mapping[str, int] | None = None,
    failed: Collection[str] = (),
) -> Step:
    """The step that the runs so far call for. The same runs always call for the same step.

    Args:
        scores: at least the exploring run, the first, of the base and of every addition.
        looks: fresh seeds that an addition may have at most; with none, the exploring seed decides, and what it keeps
            is a lead.
        contenders: additions that are trained again after the exploring seed.
        error: of keeping any addition when none adds anything.
        counts: runs of designs of earlier rounds, to learn the noise from.
        failed: designs that cannot have another run; an addition among them is out once it needs one.
    """
    have = {name: len(runs) for name, runs in scores.designs().items()}
    used = {**(counts or {}), base: max(1, (counts or {}).get(base, 1)), **dict.fromkeys(additions, 1)}
    order, look = _look(scores, used, base, list(additions), len(additions), error if looks == 0 else 0.0)
    taken = [look]
    if looks == 0:
        return Step(None, (look,), look.best if look.addition.p_value < error else None)
    alive = order[:contenders]
    for number in range(1, looks + 1):
        alive = [name for name in alive if have[name] > number or name not in failed]
        if not alive:
            break
        wanted = {**dict.fromkeys(alive, 1 + number), base: max(used[base], base_runs(len(additions), number))}
        if any(have[name] < count for name, count in wanted.items()):
            return Step(wanted, tuple(taken))
        used |= wanted
        allowed = allowed_error(error, number, looks)
        order, look = _look(scores, used, base, alive, len(additions), allowed)
        taken.append(look)
        if look.addition.p_value < allowed:
            return Step(None, tuple(taken), look.best)
        if look.addition.gain.mean <= 0:
            return Step(None, tuple(taken), behind=True)
        alive = order[: max(1, len(alive) - 1)]
    return Step(None, tuple(taken))


def base_runs(additions: int, look: int) -> int:
    """How often the base of so many additions has been trained at a look."""
    return 1 + look * math.ceil(math.sqrt(additions))


def most_runs(additions: int, *, looks: int, contenders: int) -> list[int]:
    """How often each addition is trained in a round that never ends early, the most often trained first."""
    alive = [min(additions, max(1, contenders - number)) for number in range(looks)]
    return [1 + sum(place < count for count in alive) for place in range(additions)]


def _look(
    scores: RunScores, used: Mapping[str, int], base: str, alive: Sequence[str], tried: int, error: float
) -> tuple[list[str], Look]:
    """The additions still in question from the best on, and the test of the best."""
    known = scores.first(used)
    means_R = known.means
    order = sorted(alive, key=lambda name: -float(known.mean_of(name) @ means_R))
    addition = judge_addition(known, base, order[0], noise_model(known), tried=tried)
    return order, Look(dict(used), order[0], addition, error)


def judge_all(scores: RunScores, base: str, additions: Sequence[str], look: Look) -> dict[str, Addition]:
    """Every addition's test from the runs of a look, each adjusted for all of them."""
    known = scores.first(look.counts)
    noise = noise_model(known)
    return {name: judge_addition(known, base, name, noise, tried=len(additions)) for name in additions}
