"""Decisions on scores: exact answers of small cases, and the quick cells of the simulations in ``benchmarks``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.simulated_answers import Questions
from benchmarks.verdict_tables import monte_carlo_error, summarise, tables
from benchmarks.verdicts import CLAIMS, Cell, equality, gains, greedy, headline, intervals, ranking, simulate
from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.additions import allowed_error, largest_of, pointwise_error
from ommatidia.eval.statistics.estimate import estimate
from ommatidia.eval.statistics.noise import UNKNOWN, noise_model
from ommatidia.eval.statistics.ranking import compare_to
from ommatidia.eval.statistics.run_scores import Run, RunScores, run_scores

QUESTIONS = Questions(240)


def scores(values: list[list[float]], runs: list[tuple[str, int]], clusters: list[str] | None = None) -> RunScores:
    named = None if clusters is None else {"b": clusters}
    return run_scores([Run(*run) for run in runs], {"b": values}, clusters=named, shares={"b": 1.0})


def test_one_run_is_students_t_of_its_questions() -> None:
    values = np.random.default_rng(0).random(30)
    found = estimate(scores([list(values)], [("a", 0)]), np.ones(1))
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(30))
    low, high = stats.t.interval(0.95, 29, values.mean(), values.std(ddof=1) / np.sqrt(30))
    assert (found.interval().low, found.interval().high) == pytest.approx((low, high))


def test_a_paired_difference_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(25), rng.random(25)
    found = estimate(scores([list(a), list(b)], [("a", 0), ("b", 0)]), np.array([1.0, -1.0]), bounds=(-1.0, 1.0))
    assert found.p_value == pytest.approx(float(stats.ttest_rel(a, b).pvalue))


def test_interval_and_p_value_agree_everywhere() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        pair = (rng.random((2, int(rng.integers(5, 40)))) < rng.random((2, 1))).astype(float)
        one = estimate(
            scores([list(row) for row in pair], [("a", 0), ("b", 0)]), np.array([1.0, -1.0]), bounds=(-1.0, 1.0)
        )
        interval = one.interval()
        assert (one.p_value < 0.05) == (interval.low > 0 or interval.high < 0)
        assert one.equal_within(one.equality_margin() + 1e-9)
        assert not one.equal_within(one.equality_margin() - 1e-9)


def test_noise_is_the_variance_of_seeds_less_what_questions_explain() -> None:
    rng = np.random.default_rng(3)
    drawn = rng.random((4, 3, 60)) + 0.3 * rng.standard_normal((4, 3, 1))
    made = scores(
        [list(row) for row in drawn.reshape(12, 60)], [(str(d), 10 * d + s) for d in range(4) for s in range(3)]
    )
    means = drawn.mean(2)
    noise = noise_model(made)
    assert noise.within.raw == pytest.approx(means.var(1, ddof=1).mean())
    assert noise.within.freedom == 8
    low, high = noise.deviation_interval()
    assert low < noise.deviation < high
    assert noise_model(scores([[0.0, 1.0]], [("a", 0)])) == UNKNOWN
    assert UNKNOWN.deviation_interval() == (0.0, float("inf"))


def test_what_a_sample_cannot_show_is_stated() -> None:
    alike = estimate(scores([[1.0] * 20], [("a", 0)]), np.ones(1)).interval()
    assert alike.low == pytest.approx(0.025 ** (1 / 20))
    one_image = estimate(scores([[1.0, 0.0, 1.0]], [("a", 0)], ["x"] * 3), np.ones(1)).interval()
    assert (one_image.low, one_image.high) == (0.0, 1.0)
    with pytest.raises(RunError, match="scores of 2 runs; expected 1"):
        scores([[1.0], [0.0]], [("a", 0)])


def test_the_largest_of_several_is_dunnetts() -> None:
    assert largest_of(0.02, 1, 0.5) == 0.02
    found = largest_of(float(stats.norm.sf(2.0)), 3, 0.5)
    draws = np.random.default_rng(0).standard_normal((200_000, 4))
    largest = (np.sqrt(0.5) * (draws[:, :3] + draws[:, 3:])).max(1)
    assert found == pytest.approx(float((largest > 2.0).mean()), abs=0.003)
    for correlation in (0.1, 0.5, 0.9):
        alone = pointwise_error(0.05, 6, correlation)
        assert largest_of(alone, 6, correlation) == pytest.approx(0.05)
        assert 0.05 / 6 < alone < 0.05
    assert sum(allowed_error(0.05, look, 3) for look in (1, 2, 3)) == pytest.approx(0.05)


def test_one_verdict_for_two_designs_is_that_of_the_pair_alone() -> None:
    pair = np.random.default_rng(4).random((2, 50))
    made = scores([list(row) for row in pair], [("a", 0), ("b", 0)])
    found = compare_to(made, "a", draws=20_000)["b"]
    assert found.p_value == pytest.approx(found.estimate.p_value, abs=0.01)


def test_simulated_verdicts() -> None:
    """A few cells with wide limits: a wrong formula shows, chance does not. The tables are in benchmarks.verdicts."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(0)

    cell = Cell(QUESTIONS, 3, 0.02)
    found = intervals(cell, rng(), 60)
    assert min(found["single"], found["difference"]) > 0.85
    assert max(found["width_single"], found["width_difference"]) < 1.4
    assert ranking(Cell(QUESTIONS, 3, 0.02), rng(), 15)["equal_called_behind"] < 0.2
    assert headline(Cell(QUESTIONS, 1, 0.0), rng(), 25)["covered"] > 0.8
    kept = greedy(Cell(QUESTIONS, 4, 0.02), rng(), 10)
    assert kept["idle_kept"] <= 0.3
    assert gains(Cell(QUESTIONS, 1, 0.02), rng(), 30)["covered"] > 0.8
    assert equality(cell, rng(), 30)["called_equal_at_the_margin"] < 0.25


def test_the_quick_tables_hold_every_claim() -> None:
    found = simulate(list(CLAIMS), simulations=2, quick=True)
    assert list(found) == list(CLAIMS)
    assert simulate(["equality"], simulations=2, quick=True)["equality"] == found["equality"]  # random, and fixed
    kinds = {(row["an_image"], row["seeds"], row["deviation"]) for row in found["intervals"]["cells"]}
    assert kinds == {(image, *rest) for image in (1, 3) for rest in ((1, 0.0), (3, 0.0), (3, 0.02))}
    page = tables(found)
    assert page.count("\n### ") + page.startswith("### ") == len(CLAIMS)
    assert "| idle kept: seeds, deviation | 870 questions |" in page


def test_a_cell_lies_outside_beyond_two_errors_alone() -> None:
    error = monte_carlo_error("kept", 0.09, 100)
    assert error == pytest.approx(np.sqrt(10 / 102 * 92 / 102 / 100))
    assert monte_carlo_error("kept", 0.0, 100) > 0
    rows = [{"kept": value, "errors": {"kept": error}, "real": value > 0.1} for value in (0.0, 0.09, 0.12)]
    found = summarise(rows, {"kept": (0.0, 0.05)})["kept"]
    assert found == {"cells": 3, "lowest": 0.0, "mean": 0.07, "highest": 0.12, "outside": 1}
    assert summarise(rows, {"kept": (0.0, lambda row: 0.2 if row["real"] else 0.05)})["kept"]["outside"] == 0
