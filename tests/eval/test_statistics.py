"""Statistics: exact small cases, honest coverage on simulated data, and speed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from eval_toys import Oracle, benchmark_of

from ommatidia.core.errors import RunError
from ommatidia.eval import predict, score_file
from ommatidia.eval.statistics import (
    Run,
    RunScores,
    attribution,
    compare,
    estimate,
    macro_weights,
    mean_interval,
    minimum_detectable_difference,
    run_scores,
    spearman,
    verdict_of,
)
from ommatidia.eval.suites import attribute, compare_suites, group_averages, macro_average


def names(clusters):
    return [str(c) for c in clusters]


def test_interval_is_deterministic_and_holds_the_mean():
    values = np.random.default_rng(0).random(50)
    a, b = mean_interval(values), mean_interval(values)
    assert a == b
    assert a.mean == pytest.approx(values.mean())
    assert a.low < a.mean < a.high
    assert (a.n, a.clusters, a.seeds) == (50, 50, 1)


def test_interval_agrees_with_the_textbook():
    values = np.random.default_rng(1).random(2000)
    interval = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(2000)
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)


def test_equal_clusters_widen_the_interval():
    once = np.random.default_rng(4).integers(0, 2, 200).astype(float)
    alone = mean_interval(once)
    copied = mean_interval(np.repeat(once, 5), names(np.repeat(np.arange(200), 5)))
    naive = mean_interval(np.repeat(once, 5))
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert naive.high - naive.low < 0.6 * (copied.high - copied.low)


def test_all_right_is_not_certainty():
    interval = mean_interval(np.ones(20))
    assert interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / 20))  # Clopper-Pearson
    zero = mean_interval(np.zeros(20))
    assert (zero.low, zero.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    single = mean_interval([0.5, 0.7], ["a", "a"])
    assert (single.low, single.high) == (0.0, 1.0)


def test_coverage_of_clustered_scores():
    """Of 95 % intervals on 40 clusters of 1 to 5 correlated answers, about 95 in a hundred hold the truth."""
    rng, held, trials = np.random.default_rng(5), 0, 300
    for _ in range(trials):
        member = np.repeat(np.arange(40), rng.integers(1, 6, 40))
        chance = rng.beta(2, 1, 40)[member]  # mean 2/3
        interval = mean_interval((rng.random(len(member)) < chance).astype(float), names(member))
        held += interval.low <= 2 / 3 <= interval.high
    assert 0.91 <= held / trials <= 0.985


def test_coverage_with_several_seeds():
    """Each seed is a model of its own strength: the interval must hold the strength of all seeds there could be."""
    rng, held, trials = np.random.default_rng(6), 0, 300
    for _ in range(trials):
        strength = 0.6 + 0.05 * rng.standard_normal((3, 1))
        values = (rng.random((3, 200)) < strength).astype(float)
        interval = mean_interval(values)
        held += interval.low <= 0.6 <= interval.high
    assert held / trials >= 0.91


def test_seeds_alone_give_students_t() -> None:
    """Two seeds that answer all questions alike: their variance is unbiased, with one degree of freedom."""
    interval = mean_interval([[0.49] * 200, [0.51] * 200])
    reach = 12.706 * np.sqrt(0.02**2 / 2) / np.sqrt(2)
    # All questions score alike within each seed: what can hide behind 200 equal ones is added in quadrature.
    hidden = 1 - 0.025 ** (1 / 200)
    assert (interval.high - interval.low) / 2 == pytest.approx(np.hypot(reach, hidden), rel=0.01)


@pytest.mark.parametrize("bad", [[], [np.nan, 1.0], [[[1.0]]], [[1.0, 0.0], [1.0]]])
def test_values_are_checked(bad):
    with pytest.raises(RunError):
        mean_interval(bad)


def test_clusters_are_checked():
    with pytest.raises(RunError, match="3 values and 2 clusters"):
        mean_interval([1, 0, 1], ["a", "b"])


def test_a_real_difference_is_found():
    rng = np.random.default_rng(7)
    base = (rng.random(1000) < 0.6).astype(float)
    better = np.where(rng.random(1000) < 0.2, 1.0, base)
    found = compare(better, base)
    assert found.verdict() == "better"
    assert found.interval().low > 0
    assert compare(base, better).verdict() == "worse"
    assert compare(base, better).p_value == pytest.approx(found.p_value)
    assert compare(better, base, names(np.arange(1000) // 4)).verdict() == "better"


def test_the_same_answers_cannot_be_told_apart():
    values = np.random.default_rng(8).integers(0, 2, 300).astype(float)
    same = compare(values, values)
    assert (same.mean, same.p_value, same.verdict()) == (0.0, 1.0, "cannot tell apart")
    assert same.interval().low < 0 < same.interval().high
    assert same.equality_margin() > 0


def test_false_alarms_stay_at_five_percent():
    rng, alarms = np.random.default_rng(9), dict.fromkeys(("single", "images", "seeds"), 0)
    clusters = names(np.arange(200) // 3)
    for _ in range(300):
        a, b = (rng.random((2, 200)) < 0.7).astype(float)
        seeds = (rng.random((2, 2, 200)) < 0.7 + 0.03 * rng.standard_normal((2, 2, 1))).astype(float)
        for name, found in (("single", compare(a, b)), ("images", compare(a, b, clusters)), ("seeds", compare(*seeds))):
            alarms[name] += found.verdict() != "cannot tell apart"
    assert all(count <= 27 for count in alarms.values()), alarms


def test_spread_of_seeds_counts():
    """One lucky seed is a sure difference on its samples, and no sure difference between designs."""
    rng = np.random.default_rng(10)
    lucky, plain = (rng.random(2000) < 0.75).astype(float), (rng.random(2000) < 0.65).astype(float)
    assert compare(lucky, plain).verdict() == "better"
    unstable = compare([lucky, plain], [plain, plain])
    assert unstable.seeds == 2
    assert unstable.verdict() == "cannot tell apart"
    assert compare([lucky, lucky], [plain, plain]).verdict() == "better"
    borrowed = compare([lucky, plain], plain)  # the single seed borrows the other design's spread
    assert borrowed.seeds == 1
    assert borrowed.verdict() == "cannot tell apart"


def test_more_seeds_find_more():
    """Three seeds of each design detect a smaller difference than two; one cannot know what training changes."""
    rng = np.random.default_rng(16)

    def told(seeds: int) -> float:
        drawn = (rng.random((40, 2, seeds, 400)) < 0.6 + 0.02 * rng.standard_normal((40, 2, seeds, 1))).astype(float)
        return float(np.median([compare(a, b).detectable() for a, b in drawn]))

    assert told(5) < told(3) < told(2)


def test_unlike_samples_cannot_be_compared():
    with pytest.raises(RunError, match="2 and 3 samples; expected the same"):
        compare([1, 0], [1, 0, 1])


def averaged(values: dict[str, np.ndarray], groups: dict[str, str] | None = None) -> RunScores:
    return run_scores([Run("", 0)], values, shares=macro_weights(list(values), groups))


def test_averages_are_of_benchmarks_not_of_samples():
    values = {"large": np.ones(1000), "small": np.zeros(10), "other": np.r_[np.ones(10), np.zeros(10)]}
    groups = {"large": "g", "small": "g", "other": "k"}
    plain = estimate(averaged(values), np.ones(1))
    assert plain.mean == pytest.approx(0.5)
    assert estimate(averaged(values, groups), np.ones(1)).mean == pytest.approx((0.5 + 0.5) / 2)
    # What ten equal answers may hide counts beside the one benchmark whose answers differ.
    other = estimate(averaged({"other": values["other"]}), np.ones(1))
    assert plain.half_width(0.05) > other.half_width(0.05) / 3
    with pytest.raises(RunError, match="no group"):
        macro_weights(list(values), {"large": "g"})
    with pytest.raises(RunError, match="no benchmark"):
        macro_weights([], None)


def test_averages_combine_independent_errors():
    rng = np.random.default_rng(11)
    values = {name: rng.random(400) for name in "abcd"}
    single = [mean_interval(v) for v in values.values()]
    expected = np.sqrt(sum((i.high - i.low) ** 2 for i in single)) / 4
    together = estimate(averaged(values), np.ones(1)).interval()
    assert together.high - together.low == pytest.approx(expected, rel=0.01)


def test_an_average_with_a_benchmark_of_five_images_covers():
    rng, held = np.random.default_rng(17), 0
    for _ in range(400):
        drawn = {"large": (rng.random(300) < 0.7).astype(float), "tiny": (rng.random(5) < 0.5).astype(float)}
        interval = estimate(averaged(drawn), np.ones(1)).interval()
        held += interval.low <= 0.6 <= interval.high
    assert 0.92 <= held / 400 <= 0.995


def test_the_gap_of_equal_experts_is_above_zero_in_one_case_of_twenty():
    rng, above, covered = np.random.default_rng(18), 0, 0
    for _ in range(300):
        whole = rng.random(240) < 0.6
        lost = rng.random((3, 240)) < 0.1  # each expert's removal turns answers over, alike often
        rows = [whole, *(whole ^ one for one in lost)]
        runs = [Run(name, 0) for name in ("", "a", "b", "c")]
        found = attribution(run_scores(runs, {"b": rows}, shares={"b": 1.0}), "", experts=("a", "b", "c"))
        assert found.gap is not None
        above += found.gap.low > 0
        covered += (rate := found.utilisation["a"]) is not None and rate.low <= (0.6 - 0.58) / 0.6 <= rate.high
    assert above / 300 <= 0.08
    assert 0.91 <= covered / 300 <= 0.985


def test_a_gap_that_no_answer_shows_has_no_zero_width():
    rows = np.tile(np.random.default_rng(19).integers(0, 2, 30), (3, 1))
    runs = [Run(name, 0) for name in ("", "a", "b")]
    found = attribution(run_scores(runs, {"b": rows}, shares={"b": 1.0}), "", experts=("a", "b"))
    assert found.gap is not None
    assert (found.gap.mean, found.gap.low) == (0.0, 0.0)
    assert found.gap.high > 0.1
    assert found.lost["a"].low < 0 < found.lost["a"].high
    one_image = run_scores(runs, {"b": rows}, clusters={"b": ["x"] * 30}, shares={"b": 1.0})
    wide = attribution(one_image, "", experts=("a", "b")).gap
    assert wide is not None
    assert wide.high > 1.0
    nothing = run_scores(runs, {"b": np.zeros((3, 9))}, shares={"b": 1.0})
    assert attribution(nothing, "", experts=("a", "b")).utilisation == {"a": None, "b": None}


def test_suites(tmp_path):
    right, wrong = Oracle(), Oracle(lambda call, answer: answer if int(answer) % 3 else "x")
    suites = []
    for number, answerer in enumerate((right, wrong)):
        suite = []
        for name, group in (("one", "general"), ("two", "ocr_chart"), ("three", "ocr_chart")):
            benchmark, path = benchmark_of(name=name, group=group), tmp_path / f"{name}{number}.jsonl"
            predict(benchmark, answerer, path)
            suite.append(score_file(benchmark, path))
        suites.append(suite)
    good, bad = suites
    assert macro_average(good).mean == 1.0
    assert macro_average(bad).mean == pytest.approx(13 / 20)
    assert list(group_averages(bad)) == ["general", "ocr_chart"]
    found = compare_suites([good], [bad])
    assert (found.mean, found.verdict()) == (pytest.approx(7 / 20), "better")
    assert found.interval(0.9).confidence == 0.9
    assert compare_suites([good, good], [bad, bad]).seeds == 2
    lost = attribute(good, {"one expert": bad}, experts=("one expert",)).lost["one expert"]
    assert lost.mean == pytest.approx(7 / 20)
    with pytest.raises(RunError, match="unlike benchmarks"):
        compare_suites([good], [bad[:2]])
    benchmark, path = benchmark_of(name="one"), tmp_path / "blind.jsonl"
    predict(benchmark, right, path, mode="blind")
    with pytest.raises(RunError, match="unlike mode"):
        compare_suites([good[:1]], [[score_file(benchmark, path)]])


def test_a_verdict_needs_a_difference_and_a_small_p():
    assert verdict_of(0.1, 0.05) == "cannot tell apart"
    assert verdict_of(0.1, 0.049) == "better"
    assert verdict_of(-0.1, 0.049) == "worse"
    assert verdict_of(0.0, 0.0) == "cannot tell apart"


def test_the_detectable_difference_is_detected_as_promised():
    rng, found, told = np.random.default_rng(14), 0, []
    gap = minimum_detectable_difference(400, 0.04)
    for _ in range(200):
        differences = gap + rng.choice([-0.2, 0.2], 400)
        one = compare(np.clip(0.5 + differences / 2, 0, 1), np.clip(0.5 - differences / 2, 0, 1))
        found += one.verdict() == "better"
        told.append(one.detectable())
    assert 0.72 <= found / 200 <= 0.88
    assert np.mean(told) == pytest.approx(gap, rel=0.05)


def test_a_comparison_of_several_seeds_tells_what_it_could_find():
    rng, gap, found = np.random.default_rng(15), 0.0, 0

    def design(mean: float) -> np.ndarray:
        """Four seeds of 300 answers; a seed is worth 3 points more or less."""
        return (rng.random((4, 300)) < mean + 0.03 * rng.standard_normal((4, 1))).astype(float)

    told = [compare(design(0.5), design(0.5)).detectable() for _ in range(60)]
    gap = float(np.mean(told))
    for _ in range(150):
        found += compare(design(0.5 + gap), design(0.5)).verdict() == "better"
    assert 0.68 <= found / 150 <= 0.92


def test_spearman():
    assert spearman([1, 2, 3], [10, 20, 30]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 2, 2, 4], [1, 3, 2, 4]) == pytest.approx(0.9486833)
    assert np.isnan(spearman([1, 1], [1, 2]))
    with pytest.raises(RunError):
        spearman([1], [1])


def test_fast_enough():
    values = np.random.default_rng(15).random(10_000)
    mean_interval(values[:10])
    taken = []
    for _ in range(3):
        start = time.process_time()
        mean_interval(values)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.5
