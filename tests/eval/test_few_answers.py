"""Few, equal or unanimous answers: a stated limit, never a certainty; and properties of every small table."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ommatidia.core.errors import RunError
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.score import Score
from ommatidia.eval.statistics import Run, attribution, compare, mean_interval, noise_model, run_scores
from ommatidia.eval.statistics.noise import UNKNOWN
from ommatidia.eval.statistics.ranking import compare_to
from ommatidia.eval.statistics.run_scores import RunScores
from ommatidia.eval.statistics.selection import chosen_interval
from ommatidia.eval.suites import difference, signature, suite_scores


@pytest.mark.parametrize("count", range(2, 30))
def test_unanimous_answers_have_mcnemar_s_exact_p_value(count: int) -> None:
    """All of K questions speak for one design: the sign test's 2 / 2^K."""
    found = compare([1.0] * count, [0.0] * count)
    assert found.p_value == pytest.approx(2 * 0.5**count, rel=1e-6)
    low = found.interval().low
    assert (low > 0) == (found.p_value < 0.05)
    assert found.verdict() == ("better" if count > 5 else "cannot tell apart")


def test_unanimous_over_many_benchmarks_is_no_certainty() -> None:
    names = [f"b{n}" for n in range(9)]
    values = {name: [[1.0, 1.0], [0.0, 0.0]] for name in names}
    scores = run_scores([Run("a", 0), Run("b", 0)], values, shares=dict.fromkeys(names, 1 / 9))
    found = compare_to(scores, "b")["a"]
    assert found.estimate.p_value == pytest.approx(2 * 0.5**18)


def table_of(answers: list[list[float]], seeds: list[int] | None = None, **options: object) -> RunScores:
    runs = [Run(f"d{n // len(seeds or [0])}", (seeds or [0])[n % len(seeds or [0])]) for n in range(len(answers))]
    return run_scores(runs, {"": answers}, shares={"": 1.0}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_equal_answers_are_compared_no_more_closely_among_many(count: int) -> None:
    scores = table_of([[1.0] * count] * 4)
    alone = compare([1.0] * count, [1.0] * count)
    assert alone.interval().high > 0
    for one in compare_to(scores, "d0").values():
        assert one.interval.high - one.interval.low >= alone.interval().high - alone.interval().low - 1e-12
        assert one.p_value == 1.0


def scored(values: list[float], weights: list[float], **changes: object) -> Scored:
    units = tuple(
        Score(f"{n}", v, cluster=f"{n}", weight=w) for n, (v, w) in enumerate(zip(values, weights, strict=True))
    )
    interval = mean_interval(values, weights=weights, bounds=(0.0, 10.0))
    parts = {"scorer": "llava_bench", "scorer_version": 1, **changes}
    return Scored("bench", "general", "full", "", scores=units, units=units, interval=interval, **parts)  # type: ignore[arg-type]


def test_a_ratio_of_means_has_each_run_s_own_weights_and_may_exceed_one() -> None:
    """LLaVA-Bench: 100 times the sum of a judge's grades over the sum of its grades of the reference."""
    first = scored([10 / 2, 8 / 4, 9 / 5], [2.0, 4.0, 5.0])
    other = scored([3 / 6, 4 / 8, 9 / 9], [6.0, 8.0, 9.0])
    scores = suite_scores({Run("a", 0): [first], Run("b", 0): [other]})
    assert scores.means == pytest.approx([27 / 11, 16 / 23])
    found = compare_to(scores, "b")["a"]
    assert found.estimate.mean == pytest.approx(27 / 11 - 16 / 23)
    assert found.interval.high > found.estimate.mean > 1.0
    assert scores.most == 10.0


def test_suites_of_unlike_answers_say_why() -> None:
    whole, torn = scored([1.0, 2.0], [1.0, 1.0]), scored([1.0], [1.0])
    assert difference([whole], [whole]) == ""
    assert "unlike samples" in difference([whole], [torn])
    assert "scorer_version" in difference([whole], [scored([1.0, 2.0], [1.0, 1.0], scorer_version=2)])
    assert signature([whole]) != signature([torn])
    with pytest.raises(RunError):
        suite_scores({Run("a", 0): [whole], Run("b", 0): [torn]})


def test_what_can_hide_in_a_rate_is_a_share_of_the_whole() -> None:
    """20 questions of which the whole answers 4: one hidden answer weighs five times as much as in the score."""
    whole = [1.0] * 4 + [0.0] * 16
    scores = run_scores([Run("", 0), Run("a", 0), Run("b", 0)], {"": [whole] * 3}, shares={"": 1.0})
    found = attribution(scores, "", experts=["a", "b"])
    lost, rate, gap = found.lost["a"], found.utilisation["a"], found.gap
    assert rate is not None
    assert gap is not None
    assert rate.mean - rate.low == pytest.approx(5 * (lost.mean - lost.low), rel=1e-6)
    assert (gap.mean, gap.low) == (0.0, 0.0)
    assert gap.high >= 5 * lost.high


def test_a_corrected_score_never_exceeds_the_observed_one() -> None:
    chance = np.random.default_rng(5)
    for _ in range(60):
        scores = table_of((chance.random((5, 60)) < 0.5).astype(float).tolist())
        best = max(scores.designs(), key=lambda name: scores.mean_of(name) @ scores.means)
        mean_R = scores.mean_of(best)
        won = np.array([mean_R - scores.mean_of(name) for name in scores.designs() if name != best])
        found = chosen_interval(scores, mean_R, won)
        assert found.low <= found.mean <= mean_R @ scores.means <= 1.0
        assert found.mean <= found.high


TABLES = st.integers(1, 12).flatmap(
    lambda questions: st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=questions, max_size=questions), min_size=2, max_size=6
    )
)


@settings(max_examples=150, deadline=None)
@given(answers=TABLES, seeds=st.sampled_from([[0], [0, 1]]), images=st.booleans())
def test_one_rule_in_every_small_table(answers: list[list[float]], seeds: list[int], images: bool) -> None:
    answers = answers[: len(answers) // len(seeds) * len(seeds)]
    clusters = {"": [f"{n // 2}" for n in range(len(answers[0]))]} if images else None
    scores = table_of(answers, seeds, clusters=clusters)
    noise = noise_model(scores)
    for one in compare_to(scores, "d0", noise, draws=400).values():
        alone, together = one.estimate.interval(), one.interval
        for interval, p_value in ((alone, one.estimate.p_value), (together, one.p_value)):
            assert 0.0 < p_value <= 1.0
            assert -1.0 <= interval.low <= interval.mean <= interval.high <= 1.0
            assert interval.low < interval.high
            assert (p_value < 0.05) == (interval.low > 0 or interval.high < 0)
        assert one.p_value >= one.estimate.p_value
        assert together.low <= alone.low <= alone.high <= together.high
        assert one.estimate.equality_margin() >= abs(one.estimate.mean)


@settings(max_examples=50, deadline=None)
@given(answers=TABLES, order=st.randoms(use_true_random=False))
def test_the_order_of_questions_and_designs_changes_nothing(answers: list[list[float]], order: object) -> None:
    scores = table_of(answers)
    questions = list(range(len(answers[0])))
    order.shuffle(questions)  # type: ignore[attr-defined]
    turned = table_of([[row[n] for n in questions] for row in answers])
    for name in list(scores.designs())[1:]:
        one, other = compare_to(scores, "d0", UNKNOWN)[name], compare_to(turned, "d0", UNKNOWN)[name]
        assert one.estimate.p_value == pytest.approx(other.estimate.p_value)
        assert one.estimate.interval().low == pytest.approx(other.estimate.interval().low)


@pytest.mark.parametrize(("right", "count"), product([0, 1], [1, 2, 3, 20]))
def test_no_width_is_zero(right: int, count: int) -> None:
    found = mean_interval([float(right)] * count)
    assert found.high - found.low > 0.1
    assert found.low <= right <= found.high
