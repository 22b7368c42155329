"""A round of a greedy search as a value: what was tried, look by look, what was decided, and in which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ommatidia.eval.statistics.additions import Addition
from ommatidia.lab.run.trial import Trial
from ommatidia.lab.search import confirmation

Decision = Literal["choice", "kept", "lead", "not shown", "stopped early", "undecided", "ended"]
"""What a round came to.

choice: the single expert that scored highest; nothing was tested. kept: the best addition adds something, at the
search's confidence. lead: so it looks with one seed. not shown: no addition could be shown to add anything. stopped
early: none was ahead of the base any more. undecided: the budget ended first. ended: nothing was tried.
"""


@dataclass(frozen=True)
class Candidate:
    """One addition of a round: its exploring run, and its test against the base over all runs that the round used."""

    expert: str
    trial: Trial
    gain: Addition | None
    """None in a first round that starts from nothing."""
    runs: int = 1


@dataclass(frozen=True)
class Look:
    """The best addition after so many fresh seeds, and its test."""

    expert: str
    addition: Addition
    error: float
    """What the look may spend; 0 where it only said what to train again."""
    runs: int
    """Of the addition, the exploring one among them."""
    base_runs: int


@dataclass(frozen=True)
class Round:
    """One round: the base set, what was tried, and what was decided."""

    base: tuple[str, ...]
    tried: tuple[Candidate, ...]
    kept: str | None
    reason: str
    decision: Decision
    looks: tuple[Look, ...] = ()

    @property
    def result(self) -> tuple[str, ...]:
        """The set the round ends with."""
        return self.base + ((self.kept,) if self.kept else ())


def looks_of(looks: Sequence[confirmation.Look], experts: Mapping[str, str], base: str) -> tuple[Look, ...]:
    """The looks of a round; ``experts``: by the address of the design that each makes."""
    return tuple(
        Look(experts[one.best], one.addition, one.error, one.counts[one.best], one.counts[base]) for one in looks
    )


def choose(tried: Mapping[str, Trial]) -> Round:
    """The round that starts from nothing: the single expert that scores highest, with one seed and without a test."""
    best = max(tried, key=lambda name: tried[name].average)
    candidates = tuple(Candidate(name, trial, None) for name, trial in tried.items())
    reason = f"{best} scored highest of {len(tried)} single experts: a choice with one seed, not a test"
    if len(tried) == 1:
        reason = f"{best} is the only single expert"
    return Round((), candidates, best, reason, "choice")


def decide(
    base: tuple[str, ...], tried: Sequence[Candidate], looks: tuple[Look, ...], kept: str | None, *, behind: bool
) -> Round:
    """The round of a base, in words."""
    last = looks[-1]
    found = f"{last.expert} adds {_numbers(last)}"
    one_seed = len(looks) == 1 and last.error > 0
    decision: Decision
    if kept and one_seed:
        decision, end = "lead", "a lead, since one seed cannot show what training again would change"
    elif kept:
        decision, end = "kept", f"kept after {_fresh(last)}"
    elif behind:
        decision = "stopped early"
        end = f"no addition is ahead of the base after {_fresh(last)}, so the search stops early"
    elif last.error == 0.0:
        decision, end = "not shown", "every addition that was to be trained again failed, so the search stops"
    else:
        decision, end = "not shown", "not shown to add anything, so the search stops"
    return Round(base, tuple(tried), kept, f"{found}: {end}", decision, looks)


def _numbers(look: Look) -> str:
    """The gain with its adjusted interval and p-value."""
    tried = look.addition.tried
    told = f"p = {look.addition.p_value:.3f}" if look.addition.p_value >= 0.001 else "p < 0.001"
    among = f"adjusted for {tried} additions" if tried > 1 else "one addition"
    mean = f"{_points(look.addition.gain.mean)} points"
    if look.error == 0.0:
        return f"{mean} ({told}, {among})"
    interval = look.addition.interval(look.error)
    bounds = f"{_points(interval.low)} to {_points(interval.high)}"
    return f"{mean} ({100 * interval.confidence:.3g} % interval {bounds}, {told}, {among})"


def _fresh(look: Look) -> str:
    count = look.runs - 1
    return f"{count} fresh {'seed' if count == 1 else 'seeds'}"


def _points(fraction: float) -> str:
    """With its sign, in points of a percentage."""
    return f"{100 * fraction:+.1f}".replace("-", "−")
