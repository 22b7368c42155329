"""How often the lab's verdicts are right, by seeded simulations with known truths. Prints JSON.

python -m benchmarks.verdicts [--claims intervals,ranking,...] [--simulations 400] [--quick]

One table a claim: what must hold, and for each cell (questions, images, seeds, deviation over seeds) what was found.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from benchmarks.simulated_answers import Array, Questions, draw_answers, scores_of
from ommatidia.eval.statistics import expected_difference
from ommatidia.eval.statistics.estimate import estimate
from ommatidia.eval.statistics.gains import mean_gain
from ommatidia.eval.statistics.noise import noise_model
from ommatidia.eval.statistics.ranking import compare_to
from ommatidia.eval.statistics.selection import chosen_interval
from ommatidia.lab.search.confirmation import next_step

TRUTH = 0.6
KINDS = tuple(
    Questions(count, an_image, correlation)
    for count in (50, 240, 870, 3000)
    for an_image, correlation in ((1, 0.0), (3, 0.3), (3, 0.8))
)
DEVIATIONS = (0.0, 0.01, 0.02, 0.05)
TABLE = 8
"""Designs of a table that have several seeds and tell the noise together."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of a simulation."""

    questions: Questions
    seeds: int
    deviation: float

    def to_dict(self) -> dict[str, Any]:
        asked = self.questions
        return {
            "questions": asked.count, "an_image": asked.an_image, "correlation": asked.correlation,
            "seeds": self.seeds, "deviation": self.deviation,
        }  # fmt: skip


def intervals(cell: Cell, rng: np.random.Generator, simulations: int) -> dict[str, float]:
    """Coverage of 95 % intervals of one design and of a difference, and their width against what is needed.

    With one seed and a deviation nothing in the table tells it: the interval then covers these trained models alone.
    """
    rows = []
    for _ in range(simulations):
        scores = scores_of(
            draw_answers(rng, [TRUTH] * TABLE, cell.seeds, cell.questions, deviation=cell.deviation), cell.questions
        )
        noise = noise_model(scores)
        single = estimate(scores, scores.mean_of("0"), noise)
        pair = estimate(scores, scores.mean_of("0") - scores.mean_of("1"), noise, bounds=(-1.0, 1.0))
        halves = single.half_width(0.05), pair.half_width(0.05)
        off = single.mean - TRUTH, pair.mean
        rows.append((abs(off[0]) <= halves[0], abs(off[1]) <= halves[1], *halves, *off))
    found = np.array(rows, dtype=np.float64)
    needed = 1.96 * found[:, 4:].std(0)
    covered, width = found[:, :2].mean(0), found[:, 2:4].mean(0) / needed
    return {"single": covered[0], "difference": covered[1], "width_single": width[0], "width_difference": width[1]}


def ranking(
    cell: Cell, rng: np.random.Generator, simulations: int, *, designs: int = 13, repeated: int = 3
) -> dict[str, float]:
    """Tables of equal designs in which any is called behind the best. Three designs have the cell's seeds, the others
    one, as in a search; then the same with three designs 6 points behind."""
    wrong, right = [], []
    for behind in (0, 3):
        accuracies = [TRUTH - (0.06 if number >= designs - behind else 0.0) for number in range(designs)]
        for _ in range(simulations):
            answers = draw_answers(rng, accuracies, cell.seeds, cell.questions, deviation=cell.deviation)
            seeds = _repeat_best(answers, repeated)
            scores = scores_of(answers, cell.questions, seeds=seeds)
            best = max(scores.designs(), key=lambda name: float(scores.mean_of(name) @ scores.means))
            found = compare_to(scores, best, noise_model(scores), draws=1000)
            called = {int(name) for name, one in found.items() if one.verdict == "worse"}
            wrong.append(any(number < designs - behind for number in called))
            if behind:
                right.append(np.mean([number in called for number in range(designs - behind, designs)]))
    return {"equal_called_behind": float(np.mean(wrong)), "six_points_found": float(np.mean(right))}


def _repeat_best(answers_DSN: Array, repeated: int) -> list[int]:
    """All seeds for the designs that the first seed likes best, one for the others."""
    order = np.argsort(-answers_DSN[:, 0].mean(1))
    seeds = np.ones(len(answers_DSN), dtype=int)
    seeds[order[:repeated]] = answers_DSN.shape[1]
    return [int(count) for count in seeds]


def headline(cell: Cell, rng: np.random.Generator, simulations: int, *, designs: int = 13) -> dict[str, float]:
    """Coverage of the best design's own accuracy by its corrected interval; all designs are equal."""
    rows = []
    for _ in range(simulations):
        answers = draw_answers(rng, [TRUTH] * designs, cell.seeds, cell.questions, deviation=cell.deviation)
        scores = scores_of(answers, cell.questions)
        names = list(scores.designs())
        best = max(names, key=lambda name: float(scores.mean_of(name) @ scores.means))
        won = np.array([scores.mean_of(best) - scores.mean_of(name) for name in names if name != best])
        noise = noise_model(scores)
        found = chosen_interval(scores, scores.mean_of(best), won, noise, draws=1000)
        plain = estimate(scores, scores.mean_of(best), noise).interval()
        rows.append(
            (found.low <= TRUTH <= found.high, plain.low <= TRUTH <= plain.high, found.mean - TRUTH, plain.mean - TRUTH)
        )
    covered, plainly, off, plainly_off = np.mean(rows, axis=0)
    return {"covered": covered, "uncorrected": plainly, "too_high": off, "uncorrected_too_high": plainly_off}


def greedy(cell: Cell, rng: np.random.Generator, simulations: int) -> dict[str, float]:
    """Rounds of six additions: how often one that adds nothing is kept, and how often the only real one is (+4 points).

    The cell's seeds are the exploring one and the fresh ones. ``runs`` counts trainings after the exploring ones.
    """
    kept: dict[float, list[bool]] = {0.0: [], 0.04: []}
    runs: list[int] = []
    names = [str(number) for number in range(1, 7)]
    for gain in kept:
        for _ in range(simulations):
            answers = draw_answers(
                rng, [TRUTH] * 6 + [TRUTH + gain], 1 + 3 * (cell.seeds - 1), cell.questions, deviation=cell.deviation
            )
            # All runs that a round can ask for are there; it uses those that it would have asked for.
            scores = scores_of(answers, cell.questions)
            step = next_step(scores, "0", names, looks=cell.seeds - 1, contenders=4, error=0.05)
            kept[gain].append(step.kept is not None and (gain == 0.0 or step.kept == names[-1]))
            runs.append(sum(step.last.counts.values()) - 7)
    return {
        "idle_kept": float(np.mean(kept[0.0])),
        "real_kept": float(np.mean(kept[0.04])),
        "runs": float(np.mean(runs)),
    }


def gains(cell: Cell, rng: np.random.Generator, simulations: int) -> dict[str, float]:
    """What an encoder adds that adds nothing, over the eight pairs of all sets of four encoders, one seed each."""
    rows = []
    worth = (0.0, 0.0, 0.02, 0.04)
    accuracies = [0.5 + sum(one for bit, one in enumerate(worth) if chosen >> bit & 1) for chosen in range(16)]
    pairs = [(str(chosen | 1), str(chosen)) for chosen in range(16) if not chosen & 1]
    for _ in range(simulations):
        scores = scores_of(
            draw_answers(rng, accuracies, cell.seeds, cell.questions, deviation=cell.deviation), cell.questions
        )
        found = mean_gain(scores, pairs, noise_model(scores))
        half = found.half_width(0.05)
        rows.append((abs(found.mean) <= half, half, found.mean))
    table = np.array(rows, dtype=np.float64)
    return {"covered": table[:, 0].mean(), "width": table[:, 1].mean() / (1.96 * table[:, 2].std())}


def power(cell: Cell, rng: np.random.Generator, simulations: int) -> dict[str, float]:
    """How often two designs that differ by what was planned to be found four times in five are told apart."""
    asked = cell.questions
    gap = expected_difference(
        {"questions": asked.count},
        {"questions": "all"},
        images={"questions": len(set(asked.images))},
        alike=asked.correlation,
        seed_deviation=cell.deviation,
        seeds=cell.seeds,
        designs=TABLE,
    )
    accuracies = [0.5 + gap / 2, 0.5 - gap / 2] + [0.5] * (TABLE - 2)
    found = 0
    for _ in range(simulations):
        scores = scores_of(draw_answers(rng, accuracies, cell.seeds, asked, deviation=cell.deviation), asked)
        one = estimate(scores, scores.mean_of("0") - scores.mean_of("1"), noise_model(scores), bounds=(-1.0, 1.0))
        found += one.p_value < 0.05
    return {"planned_points": 100 * gap, "found": found / simulations}


def equality(cell: Cell, rng: np.random.Generator, simulations: int) -> dict[str, float]:
    """How often two designs that differ by exactly the margin of 3 points are called equal (at most 5 %), and two equal
    ones are."""
    rates = []
    for gap in (0.03, 0.0):
        called = 0
        for _ in range(simulations):
            answers = draw_answers(
                rng, [TRUTH + gap] + [TRUTH] * (TABLE - 1), cell.seeds, cell.questions, deviation=cell.deviation
            )
            scores = scores_of(answers, cell.questions)
            one = estimate(scores, scores.mean_of("0") - scores.mean_of("1"), noise_model(scores), bounds=(-1.0, 1.0))
            called += one.equal_within(0.03)
        rates.append(called / simulations)
    return {"called_equal_at_the_margin": rates[0], "called_equal_when_equal": rates[1]}


@dataclass(frozen=True, slots=True)
class Claim:
    """What must hold, and the simulation that shows whether it does."""

    must_hold: str
    simulate: Callable[[Cell, np.random.Generator, int], dict[str, float]]
    seeds: Sequence[int]
    deviations: Sequence[float] = DEVIATIONS


CLAIMS = {
    "intervals": Claim(
        "95 % intervals cover 93 to 97 %, at most 1.1 times as wide as needed from three seeds on, 1.25 with two",
        intervals,
        (1, 2, 3, 5),
    ),
    "ranking": Claim(
        "equal designs called behind in at most 5 % of tables; 6 points behind found in 90 % at 870 questions",
        ranking,
        (1, 2, 3),
    ),
    "headline": Claim("the best design's interval covers its own accuracy 93 to 97 % of the time", headline, (1, 3)),
    "greedy": Claim(
        "an idle encoder kept in at most 5 % of rounds; +4 points kept in 45 % at 870 questions, 2 points of deviation "
        "and 3 fresh seeds",
        greedy,
        (1, 4),
    ),
    "gains": Claim("intervals of what an encoder adds cover 93 to 97 %", gains, (1,)),
    "equality": Claim("designs that differ by the margin are called equal in at most 5 %", equality, (1, 3)),
}


def cells(claim: Claim, kinds: Sequence[Questions]) -> Iterator[Cell]:
    """With one seed and a deviation that nothing tells, a verdict about designs is not claimed."""
    for questions, seeds, deviation in product(kinds, claim.seeds, claim.deviations):
        if seeds > 1 or deviation == 0.0 or claim.simulate is gains:
            yield Cell(questions, seeds, deviation)


def simulate(names: Sequence[str], *, simulations: int, kinds: Sequence[Questions] = KINDS) -> dict[str, Any]:
    """The tables of these claims; every cell has random numbers of its own, fixed by its place."""
    found: dict[str, Any] = {}
    for name in names:
        claim = CLAIMS[name]
        rows = []
        for number, cell in enumerate(cells(claim, kinds)):
            rng = np.random.default_rng([list(CLAIMS).index(name), number])
            rates = claim.simulate(cell, rng, simulations)
            rows.append({**cell.to_dict(), **{key: round(float(value), 4) for key, value in rates.items()}})
        found[name] = {"must_hold": claim.must_hold, "simulations": simulations, "cells": rows}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", default=",".join(CLAIMS))
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="870 questions alone")
    asked = parser.parse_args()
    kinds = [kind for kind in KINDS if kind.count == 870] if asked.quick else KINDS
    print(json.dumps(simulate(asked.claims.split(","), simulations=asked.simulations, kinds=kinds), indent=1))


if __name__ == "__main__":
    main()
