"""How often the lab's verdicts are right, by seeded simulations with known truths. Prints JSON, or tables for a page.

python -m benchmarks.verdicts [--quick] [--claims intervals,ranking,...] [--simulations N] [--tables] [--from FILE]

One table a claim: what must hold, and for each cell (questions, images, seeds, deviation over seeds) what was found and
its Monte-Carlo error. All cells take well under an hour of one core; ``--quick`` takes under a minute. ``--from`` makes
the tables of a document that was kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulated_answers import Array, Questions, draw_answers, scores_of
from benchmarks.simulated_groups import TRUTHS, GroupCell, find_simulated_groups
from benchmarks.verdict_tables import Limits, monte_carlo_error, summarise, tables
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
    for an_image, correlation in ((1, 0.0), (3, 0.0), (3, 0.3), (3, 0.8))
)
SEEDS = (1, 2, 3, 4, 5)
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
    needed = 1.96 * np.maximum(found[:, 4:].std(0), 1e-9)
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


def cells(*, one_seed: bool, quick: bool) -> Iterator[Cell]:
    """All settings; those of one seed and a deviation that nothing tells only with ``one_seed``."""
    kinds = [Questions(870), Questions(870, 3, 0.3)] if quick else KINDS
    for questions, seeds, deviation in product(kinds, (1, 3) if quick else SEEDS, (0.0, 0.02) if quick else DEVIATIONS):
        if seeds > 1 or deviation == 0.0 or one_seed:
            yield Cell(questions, seeds, deviation)


def told_cells(*, quick: bool) -> Iterator[Cell]:
    """Those in which the noise of training is told, or there is none."""
    return cells(one_seed=False, quick=quick)


def leads(*, quick: bool) -> Iterator[Cell]:
    """One seed, and a deviation that nothing tells."""
    return (cell for cell in cells(one_seed=True, quick=quick) if cell.seeds == 1)


def stated_cells(*, quick: bool) -> Iterator[Cell]:
    """870 questions and 3 fresh seeds, where a paper's search would be."""
    kinds = (Questions(870, 1, 0.0), Questions(870, 3, 0.3))
    return (Cell(kind, 4, deviation) for kind in kinds[: 1 if quick else 2] for deviation in (0.01, 0.02))


def group_cells(*, quick: bool) -> Iterator[GroupCell]:
    """Numbers of models and what is behind their scores."""
    for truth, models in product(TRUTHS, (12, 23) if quick else (6, 12, 23, 50, 100)):
        yield GroupCell(truth, models)


@dataclass(frozen=True, slots=True)
class Claim:
    """What must hold, and the simulation that shows whether it does."""

    must_hold: str
    simulate: Callable[[Any, np.random.Generator, int], dict[str, float]]
    simulations: int
    limits: Limits
    cells: Callable[..., Iterator[Cell | GroupCell]] = told_cells


def _widest(cell: dict[str, Any]) -> float:
    return 1.1 if cell["seeds"] > 2 or cell["seeds"] == 1 else 1.25


def _real(cell: dict[str, Any]) -> float:
    """The gain that must be kept is stated of one setting."""
    stated = (cell["questions"], cell["an_image"], cell["seeds"], cell["deviation"]) == (870, 1, 4, 0.02)
    return 0.45 if stated else 0.0


CLAIMS = {
    "intervals": Claim(
        "95 % intervals cover 93 to 97 %, at most 1.1 times as wide as needed, 1.25 with two seeds",
        intervals,
        200,
        {
            "single": (0.93, 0.97),
            "difference": (0.93, 0.97),
            "width_single": (0.0, _widest),
            "width_difference": (0.0, _widest),
        },
    ),
    "ranking": Claim(
        "equal designs called behind in at most 5 % of tables",
        ranking,
        100,
        {"equal_called_behind": (0.0, 0.05)},
    ),
    "headline": Claim(
        "the best design's interval covers its own accuracy 93 to 97 % of the time",
        headline,
        100,
        {"covered": (0.93, 0.97)},
    ),
    "greedy": Claim(
        "an idle encoder kept in at most 5 % of rounds; +4 points kept in 45 % at 870 questions, 2 points of deviation "
        "and 3 fresh seeds",
        greedy,
        150,
        {"idle_kept": (0.0, 0.05), "real_kept": (_real, 1.0)},
    ),
    "leads": Claim(
        "nothing is claimed: how often one seed alone takes an idle encoder for a lead",
        greedy,
        150,
        {},
        leads,
    ),
    "gains": Claim(
        "intervals of what an encoder adds cover 93 to 97 %",
        gains,
        150,
        {"covered": (0.93, 0.97)},
        partial(cells, one_seed=True),
    ),
    "equality": Claim(
        "designs that differ by the margin are called equal in at most 5 %",
        equality,
        150,
        {"called_equal_at_the_margin": (0.0, 0.05)},
    ),
    "power": Claim(
        "what is planned to be found four times in five is found in 78 to 82 %", power, 200, {"found": (0.78, 0.82)}
    ),
    "groups": Claim(
        "no groups of benchmarks are reported where there are none", find_simulated_groups, 100, {}, group_cells
    ),
    "stated": Claim(
        "an idle encoder kept in at most 5 % of rounds, +4 points in 45 % at 2 points of deviation: more rounds of the "
        "cells that a paper would use",
        greedy,
        2000,
        {"idle_kept": (0.0, 0.05), "real_kept": (_real, 1.0)},
        stated_cells,
    ),
}


def simulate(names: Sequence[str], *, simulations: int | None = None, quick: bool = False) -> dict[str, Any]:
    """The tables of these claims; every cell has random numbers of its own, fixed by its place."""
    found: dict[str, Any] = {}
    for name in names:
        claim, rows = CLAIMS[name], []
        count = simulations or (claim.simulations // 5 if quick else claim.simulations)
        for number, cell in enumerate(claim.cells(quick=quick)):
            rng = np.random.Generator(np.random.SFC64([list(CLAIMS).index(name), number]))
            rates = {key: float(value) for key, value in claim.simulate(cell, rng, count).items()}
            errors = {key: monte_carlo_error(key, value, count) for key, value in rates.items()}
            rows.append({**cell.to_dict(), **_rounded(rates), "errors": _rounded(errors)})
        found[name] = {
            "must_hold": claim.must_hold,
            "simulations": count,
            "summary": summarise(rows, claim.limits),
            "cells": rows,
        }
    return found


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in numbers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", default=",".join(CLAIMS))
    parser.add_argument("--simulations", type=int, help="of each cell; by default as each claim says")
    parser.add_argument("--quick", action="store_true", help="870 questions, 1 and 3 seeds, a fifth of the simulations")
    parser.add_argument("--tables", action="store_true", help="Markdown instead of JSON")
    parser.add_argument("--from", dest="kept", type=Path, help="the JSON of an earlier run")
    asked = parser.parse_args()
    names = asked.claims.split(",")
    if unheard := [name for name in names if name not in CLAIMS]:
        parser.error(f"--claims: no claim {unheard[0]!r}; there are {', '.join(CLAIMS)}")
    if asked.kept:
        document = json.loads(asked.kept.read_text(encoding="utf-8"))
        found = {name: document.get("result", document)[name] for name in names}
    else:
        found = simulate(names, simulations=asked.simulations, quick=asked.quick)
    print(tables(found) if asked.tables else json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
