"""A greedy round in words: what became of each addition, and how its decision came about look by look."""

from __future__ import annotations

from ommatidia.lab.report.model import Candidate, GreedyLook, GreedyRound, RoundWord
from ommatidia.lab.report.numbers import p_value, plural, signed

KEPT_WORDS: dict[RoundWord, str] = {"choice": "chosen", "kept": "kept", "lead": "a lead"}
"""What is said of the addition that a round goes on with."""


def outcome(candidate: Candidate, greedy_round: GreedyRound) -> str:
    """What the round says of this addition; empty for one that it does not go on with."""
    return KEPT_WORDS.get(greedy_round.word, "kept") if candidate.kept else ""


def gains_note(greedy_round: GreedyRound) -> str:
    """What the intervals and p-values of the gains are adjusted for; empty where nothing was tested."""
    if not greedy_round.looks:
        return ""
    tried = len(greedy_round.tried)
    among = f"adjusted for all {tried} additions" if tried > 1 else "of the one addition"
    one_seed = "; with one seed they hold for these trained models alone" if _one_seed(greedy_round) else ""
    return (
        f"Gains over the base: {100 * greedy_round.confidence:.3g} % intervals and one-sided p, {among}, over the runs "
        f"that the decision used{one_seed}."
    )


def look_lines(greedy_round: GreedyRound) -> tuple[str, ...]:
    """A line for each look; none where one look decided, which the decision itself tells."""
    return tuple(_line(look) for look in greedy_round.looks) if len(greedy_round.looks) > 1 else ()


def _line(look: GreedyLook) -> str:
    found = f"{look.expert} ahead with {signed(look.gain)} points, {p_value(look.p)}"
    if look.error == 0.0:
        return f"After the exploring seed: {found}; this only says what to train again."
    runs = f"{plural(look.runs, 'run')} of it and {look.base_runs} of the base"
    return f"After {plural(look.runs - 1, 'fresh seed')} ({runs}): {found}; kept below {look.error:.4f}."


def _one_seed(greedy_round: GreedyRound) -> bool:
    return all(look.runs == look.base_runs == 1 for look in greedy_round.looks)
