"""Statistics: exact small cases, honest coverage on simulated data, and speed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from eval_toys import Oracle, benchmark_of

from ommatidia.core.errors import RunError
from ommatidia.eval import predict, score_file
from ommatidia.eval.statistics import (
    bootstrap_interval,
    compare,
    compare_macro,
    compare_suites,
    group_averages,
    holm,
    judge,
    macro_average,
    macro_interval,
    mcnemar,
    minimum_detectable_difference,
    spearman,
    verdict,
)


def names(clusters):
    return [str(c) for c in clusters]


def test_interval_is_deterministic_and_holds_the_mean():
    values = np.random.default_rng(0).random(50)
    a, b = bootstrap_interval(values), bootstrap_interval(values)
    assert a == b
    assert a.mean == pytest.approx(values.mean())
    assert a.low < a.mean < a.high
    assert bootstrap_interval(values, seed=1) != a
    assert (a.n, a.clusters, a.seeds) == (50, 50, 1)


def test_interval_agrees_with_the_textbook():
    values = np.random.default_rng(1).random(2000)
    interval = bootstrap_interval(values, resamples=4000)
    half = 1.96 * values.std(ddof=1) / np.sqrt(2000)
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)


def test_both_ways_of_resampling_agree():
    binary = np.random.default_rng(2).integers(0, 2, 1000).astype(float)
    nearly = binary + np.random.default_rng(3).random(1000) * 1e-6  # no two rows equal: drawn one by one
    a, b = bootstrap_interval(binary, resamples=4000), bootstrap_interval(nearly, resamples=4000)
    assert a.low == pytest.approx(b.low, abs=0.004)
    assert a.high == pytest.approx(b.high, abs=0.004)


def test_equal_clusters_widen_the_interval():
    once = np.random.default_rng(4).integers(0, 2, 200).astype(float)
    alone = bootstrap_interval(once)
    copied = bootstrap_interval(np.repeat(once, 5), names(np.repeat(np.arange(200), 5)))
    naive = bootstrap_interval(np.repeat(once, 5))
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert naive.high - naive.low < 0.6 * (copied.high - copied.low)


def test_all_right_is_not_certainty():
    interval = bootstrap_interval(np.ones(20))
    assert interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / 20))  # Clopper-Pearson
    zero = bootstrap_interval(np.zeros(20))
    assert (zero.low, zero.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    single = bootstrap_interval([0.5, 0.7], ["a", "a"])
    assert (single.low, single.high) == (0.0, 1.0)


def test_coverage_of_clustered_scores():
    """Of 95 % intervals on 40 clusters of 1 to 5 correlated answers, about 95 in a hundred hold the truth."""
    rng, held, trials = np.random.default_rng(5), 0, 300
    for trial in range(trials):
        member = np.repeat(np.arange(40), rng.integers(1, 6, 40))
        chance = rng.beta(2, 1, 40)[member]  # mean 2/3
        interval = bootstrap_interval(
            (rng.random(len(member)) < chance).astype(float), names(member), resamples=500, seed=trial
        )
        held += interval.low <= 2 / 3 <= interval.high
    assert 0.91 <= held / trials <= 0.985


def test_coverage_with_several_seeds():
    """Each seed is a model of its own strength: the interval must hold the strength of all seeds there could be."""
    rng, held, trials = np.random.default_rng(6), 0, 300
    for trial in range(trials):
        strength = 0.6 + 0.05 * rng.standard_normal((3, 1))
        values = (rng.random((3, 200)) < strength).astype(float)
        interval = bootstrap_interval(values, resamples=500, seed=trial)
        held += interval.low <= 0.6 <= interval.high
    assert held / trials >= 0.91


def test_seeds_alone_give_students_t() -> None:
    """Two seeds that answer all questions alike: their variance is unbiased, with one degree of freedom."""
    interval = bootstrap_interval([[0.49] * 200, [0.51] * 200], resamples=20_000)
    reach = 12.706 * np.sqrt(0.02**2 / 2) / np.sqrt(2)
    assert (interval.high - interval.low) / 2 == pytest.approx(reach, rel=0.05)


@pytest.mark.parametrize("bad", [[], [np.nan, 1.0], [[[1.0]]], [[1.0, 0.0], [1.0]]])
def test_values_are_checked(bad):
    with pytest.raises(RunError):
        bootstrap_interval(bad)


def test_clusters_are_checked():
    with pytest.raises(RunError, match="3 values and 2 clusters"):
        bootstrap_interval([1, 0, 1], ["a", "b"])


def test_mcnemar():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)


def test_a_real_difference_is_found():
    rng = np.random.default_rng(7)
    base = (rng.random(1000) < 0.6).astype(float)
    better = np.where(rng.random(1000) < 0.2, 1.0, base)
    found = compare(better, base)
    assert (found.method, found.verdict) == ("mcnemar", "better")
    assert found.interval.low > 0
    assert compare(base, better).verdict == "worse"
    assert compare(base, better).p_value == found.p_value
    clustered = compare(better, base, names(np.arange(1000) // 4))
    assert (clustered.method, clustered.verdict) == ("sign flip", "better")


def test_the_same_answers_cannot_be_told_apart():
    values = np.random.default_rng(8).integers(0, 2, 300).astype(float)
    same = compare(values, values)
    assert (same.difference, same.p_value, same.verdict) == (0.0, 1.0, "cannot tell apart")
    assert same.interval.low < 0 < same.interval.high


def test_false_alarms_stay_at_five_percent():
    rng, alarms = np.random.default_rng(9), {"mcnemar": 0, "sign flip": 0, "seeds t": 0}
    for trial in range(100):
        a, b = (rng.random((2, 200)) < 0.7).astype(float)
        clusters = names(np.arange(200) // 3)
        for found in (
            compare(a, b, resamples=500, seed=trial),
            compare(a, b, clusters, resamples=500, seed=trial),
            compare(
                *(rng.random((2, 2, 200)) < 0.7 + 0.03 * rng.standard_normal((2, 2, 1))), resamples=500, seed=trial
            ),
        ):
            alarms[found.method] += found.verdict != "cannot tell apart"
    assert all(count <= 11 for count in alarms.values()), alarms


def test_sign_flip_equals_mcnemar_on_single_questions():
    a, b = np.zeros(40), np.zeros(40)
    a[:8], b[8:10] = 1, 1
    exact = compare(a, b).p_value
    halves = compare_macro({"x": a[::2], "y": a[1::2]}, {"x": b[::2], "y": b[1::2]})
    assert halves.method == "sign flip"
    assert halves.p_value == pytest.approx(exact, abs=0.005)
    assert halves.difference == pytest.approx(6 / 40)


def test_spread_of_seeds_counts():
    """One lucky seed is a sure difference on its samples, and no sure difference between designs."""
    rng = np.random.default_rng(10)
    lucky, plain = (rng.random(2000) < 0.75).astype(float), (rng.random(2000) < 0.65).astype(float)
    assert compare(lucky, plain).verdict == "better"
    unstable = compare([lucky, plain], [plain, plain])
    assert unstable.method == "seeds t"
    assert unstable.seeds == (2, 2)
    assert unstable.verdict == "cannot tell apart"
    steady = compare([lucky, lucky], [plain, plain])
    assert steady.verdict == "better"
    borrowed = compare([lucky, plain], plain)  # the single seed borrows the other design's spread
    assert borrowed.seeds == (2, 1)
    assert borrowed.verdict == "cannot tell apart"


def test_unlike_samples_cannot_be_compared():
    with pytest.raises(RunError, match="cannot be paired"):
        compare([1, 0], [1, 0, 1])
    with pytest.raises(RunError, match="unlike benchmarks"):
        compare_macro({"x": [1]}, {"y": [1]})
    with pytest.raises(RunError, match="unlike numbers of seeds"):
        compare_macro({"x": [[1], [0]], "y": [1]}, {"x": [1], "y": [1]})


def test_macro_interval_averages_benchmarks_not_samples():
    values = {"large": np.ones(1000), "small": np.zeros(10), "other": np.r_[np.ones(10), np.zeros(10)]}
    groups = {"large": "g", "small": "g", "other": "k"}
    plain = macro_interval(values)
    assert plain.mean == pytest.approx(0.5)
    assert macro_interval(values, groups=groups).mean == pytest.approx((0.5 + 0.5) / 2)
    one = macro_interval({"other": values["other"]})
    assert plain.high - plain.mean > (one.high - one.mean) / 3
    with pytest.raises(RunError, match="no group"):
        macro_interval(values, groups={"large": "g"})
    with pytest.raises(RunError, match="no benchmark"):
        macro_interval({})


def test_macro_interval_combines_independent_errors():
    rng = np.random.default_rng(11)
    values = {name: rng.random(400) for name in "abcd"}
    single = [bootstrap_interval(v, resamples=4000) for v in values.values()]
    expected = np.sqrt(sum((i.high - i.low) ** 2 for i in single)) / 4
    together = macro_interval(values, resamples=4000)
    assert together.high - together.low == pytest.approx(expected, rel=0.07)


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
    found = compare_suites([good], [bad], confidence=0.9)
    assert (found.difference, found.verdict) == (pytest.approx(7 / 20), "better")
    assert found.interval.confidence == 0.9
    assert compare_suites([good, good], [bad, bad]).seeds == (2, 2)
    with pytest.raises(RunError, match="unlike benchmarks"):
        compare_suites([good], [bad[:2]])
    benchmark, path = benchmark_of(name="one"), tmp_path / "blind.jsonl"
    predict(benchmark, right, path, mode="blind")
    with pytest.raises(RunError, match="unlike mode"):
        compare_suites([good[:1]], [[score_file(benchmark, path)]])


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_judge_corrects_for_many():
    rng = np.random.default_rng(12)
    base = (rng.random(300) < 0.5).astype(float)
    slightly = base.copy()
    slightly[np.flatnonzero(base == 0)[:6]] = 1.0
    found = compare(slightly, base)
    assert found.verdict == "better"  # p = 2 / 2**6
    assert [words for _, words in judge([found] * 10)] == ["cannot tell apart"] * 10
    assert verdict(0.1, 0.05) == "cannot tell apart"


def test_the_paired_variance_is_that_of_a_clusters_difference():
    rng = np.random.default_rng(13)
    a, b = rng.random((2, 500))
    assert compare(a, b).paired_variance == pytest.approx((a - b).var(), rel=0.1)


def test_the_detectable_difference_is_detected_as_promised():
    rng, found, told = np.random.default_rng(14), 0, []
    gap = minimum_detectable_difference(400, 0.04)
    for trial in range(200):
        differences = gap + rng.choice([-0.2, 0.2], 400)
        one = compare(np.clip(0.5 + differences / 2, 0, 1), np.clip(0.5 - differences / 2, 0, 1),
                      resamples=200, seed=trial)  # fmt: skip
        found += one.verdict == "better"
        told.append(one.detectable())
    assert 0.72 <= found / 200 <= 0.88
    assert np.mean(told) == pytest.approx(gap, rel=0.05)


def test_a_comparison_of_several_seeds_tells_what_it_could_find():
    rng, gap, found = np.random.default_rng(15), 0.0, 0

    def design(mean: float) -> np.ndarray:
        """Four seeds of 300 answers; a seed is worth 3 points more or less."""
        return (rng.random((4, 300)) < mean + 0.03 * rng.standard_normal((4, 1))).astype(float)

    told = [compare(design(0.5), design(0.5), resamples=200, seed=trial).detectable() for trial in range(60)]
    gap = float(np.mean(told))
    for trial in range(150):
        found += compare(design(0.5 + gap), design(0.5), resamples=200, seed=trial).verdict == "better"
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
    bootstrap_interval(values[:10])
    taken = []
    for _ in range(3):
        start = time.process_time()
        bootstrap_interval(values)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.5
