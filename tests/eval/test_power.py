"""Planned power: exact values where there is a formula, and by simulation with the test that it plans for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.simulated_answers import Questions
from benchmarks.verdicts import Cell, power
from ommatidia.core.errors import RunError
from ommatidia.eval.statistics import expected_difference, minimum_detectable_difference


def test_one_seed_is_a_paired_t_test_of_the_images() -> None:
    found = minimum_detectable_difference(40, 0.2)
    deviation = np.sqrt(0.2 / 40)
    assert found == pytest.approx((stats.t.ppf(0.975, 39) + stats.norm.ppf(0.8)) * deviation, rel=1e-3)
    assert minimum_detectable_difference(40, 0.2, power=0.9) > found > minimum_detectable_difference(40, 0.2, alpha=0.1)
    assert expected_difference({"a": 400}, {"a": "g"}, unlike=0.2) == pytest.approx(
        minimum_detectable_difference(400, 0.2)
    )


def test_seeds_alone_are_a_t_test_of_their_means() -> None:
    # No noise of questions: two designs of three seeds, whose pooled variance has four degrees of freedom.
    found = minimum_detectable_difference(10**9, 1e-12, seed_variance=1e-4, seeds=3)
    ratio = found / np.sqrt(2e-4 / 3)
    beyond = stats.t.ppf(0.975, 4)
    assert stats.nct.sf(beyond, 4, ratio) + stats.nct.cdf(-beyond, 4, ratio) == pytest.approx(0.8, abs=0.003)
    # More designs tell the variance better, more seeds still more so.
    more = minimum_detectable_difference(10**9, 1e-12, seed_variance=1e-4, seeds=3, designs=8)
    assert more < found
    assert minimum_detectable_difference(10**9, 1e-12, seed_variance=1e-4, seeds=5) < found


def test_questions_on_one_image_count_less() -> None:
    groups = {"a": "g"}
    alone = expected_difference({"a": 300}, groups)
    assert expected_difference({"a": 300}, groups, images={"a": 300}) == alone
    # All alike: a hundred images of three questions are a hundred questions, but for the degrees of freedom.
    same = expected_difference({"a": 300}, groups, images={"a": 100}, alike=0.999999)
    assert same == pytest.approx(expected_difference({"a": 100}, groups), rel=2e-3)
    some = [expected_difference({"a": 300}, groups, images={"a": 100}, alike=alike) for alike in (0.0, 0.3, 0.8)]
    assert alone < some[0] < some[1] < some[2] < same


def test_benchmarks_count_as_they_are_averaged() -> None:
    both = expected_difference({"a": 200, "b": 200}, {"a": "g", "b": "g"})
    assert both == pytest.approx(expected_difference({"a": 400}, {"a": "g"}), rel=1e-3)
    unlike = expected_difference({"a": 200, "b": 200, "c": 200}, {"a": "g", "b": "g", "c": "h"})
    assert unlike == pytest.approx(2.8016 * np.sqrt((2 * 0.25**2 + 0.5**2) * 0.25 / 200), rel=5e-3)


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(RunError, match="one seed a design cannot tell"):
        minimum_detectable_difference(100, 0.2, seed_variance=1e-4)
    with pytest.raises(RunError, match=r"0 < retrained <= unlike <= 0\.5"):
        expected_difference({"a": 100}, {"a": "g"}, unlike=0.1)
    with pytest.raises(RunError, match="alike: expected a correlation"):
        expected_difference({"a": 100}, {"a": "g"}, alike=1.0)


@pytest.mark.parametrize(("seeds", "deviation"), [(1, 0.0), (3, 0.02)])
def test_planned_power_is_found(seeds: int, deviation: float) -> None:
    found = power(Cell(Questions(240, 3, 0.3), seeds, deviation), np.random.default_rng(0), 300)
    assert 0.72 < found["found"] < 0.88
