"""Arithmetic behind the images: axes, ticks, labels, the Pareto front, thinned curves, numbers for people."""

from __future__ import annotations

import itertools

import pytest
from made_up_report import made_up_report

from ommatidia.lab.report import numbers
from ommatidia.lab.report.figures.axis import Axis, spanning, spread
from ommatidia.lab.report.figures.cost import Point, pareto_front, points
from ommatidia.lab.report.figures.curves import loss_panels, thinned
from ommatidia.lab.report.figures.greedy import greedy_path
from ommatidia.lab.report.model import Curve, DesignRow, Interval
from ommatidia.lab.report.ranking import ranked


def test_linear_axis_maps_its_ends_holds_outsiders_and_has_round_ticks() -> None:
    axis = Axis(0.0, 0.5, 100, 0)
    assert (axis(0.0), axis(0.5), axis(0.25), axis(2.0)) == (100, 0, 50, 0)
    assert axis.ticks(5) == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def test_log_axis_spaces_factors_evenly() -> None:
    axis = Axis(1, 100, 0, 200, log=True)
    assert axis(10) == pytest.approx(100)
    assert {1, 10, 100} <= set(axis.ticks())


@pytest.mark.parametrize("values", [[], [3.0], [0.0], [1e12, 1.01e12], [5e9, 8e15]])
@pytest.mark.parametrize("log", [False, True])
def test_spanning_holds_every_value_inside_and_has_ticks(values: list[float], log: bool) -> None:
    axis = spanning(values, 0, 100, log=log)
    assert axis.low < axis.high
    assert axis.ticks()
    assert all(axis.low <= v <= axis.high for v in values if v > 0 or not log)


@pytest.mark.parametrize("wanted", [[], [5.0], [5.0, 5.0, 5.0], [0.0, 1.0, 99.0, 100.0], [40.0, 30.0, 30.5]])
def test_spread_labels_keep_their_order_and_distance(wanted: list[float]) -> None:
    placed = spread(wanted, gap=10, low=0, high=100)
    ordered = [placed[i] for i in sorted(range(len(wanted)), key=lambda i: (wanted[i], i))]
    assert all(b - a >= 10 - 1e-6 for a, b in itertools.pairwise(ordered))
    assert all(-1e-6 <= p <= 100 + 1e-6 for p in placed)


def test_spread_leaves_labels_that_fit_where_they_are() -> None:
    assert spread([10.0, 50.0], gap=10, low=0, high=100) == (10.0, 50.0)


def test_pareto_front_is_exactly_the_undominated_points() -> None:
    def point(rank: int, cost: float, score: float) -> Point:
        return Point(rank, DesignRow(str(rank), str(rank), average=Interval(score)), cost, score)

    found = [point(1, 9, 0.9), point(2, 3, 0.8), point(3, 5, 0.8), point(4, 3, 0.7), point(5, 1, 0.2), point(6, 9, 0.9)]
    assert [p.rank for p in pareto_front(found)] == [5, 2, 1]


def test_points_leave_out_designs_without_cost_or_score_but_keep_ranks() -> None:
    rows = [DesignRow("a", "a", average=Interval(0.5)), DesignRow("b", "b", average=Interval(0.4), train_flops=2.0)]
    assert [(p.rank, p.cost) for p in points(rows, lambda d: d.train_flops)] == [(2, 2.0)]


def test_thinning_keeps_the_mean() -> None:
    curve = Curve("s", tuple(range(1000)), tuple(float(i % 7) for i in range(1000)))
    short = thinned(curve, 100)
    assert len(short.steps) == len(short.losses) == 100
    assert sum(short.losses) / 100 == pytest.approx(sum(curve.losses) / 1000)
    assert thinned(short, 100) is short


def test_runs_that_designs_share_are_drawn_once_and_stages_stand_in_order() -> None:
    panels = loss_panels(ranked(made_up_report().designs))
    assert panels[-1].stage == "fine-tuning"
    shared = next(p for p in panels if p.stage == "pre-alignment craft")
    assert shared.runs == shared.picture.count("<polyline") == 2  # two seeds, whoever uses the expert


def test_greedy_picture_marks_the_kept_and_draws_the_path() -> None:
    rounds = made_up_report().rounds
    picture = greedy_path(rounds)
    assert picture.count('class="path"') == 2  # round 1 has no base to come from, round 4 keeps nothing
    assert picture.count(">nothing kept<") == 1
    for candidate in rounds[1].tried:
        assert candidate.expert in picture
    assert greedy_path(()) == ""


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.percent(0.7123), "71.2"),
        (numbers.percent(None), "–"),
        (numbers.signed(-0.012), "−1.2"),
        (numbers.signed(-0.0001), "0.0"),
        (numbers.bracket(Interval(0.5, 0.4, 0.6)), "[40.0, 60.0]"),
        (numbers.bracket(Interval(0.5)), ""),
        (numbers.scaled(0), "0"),
        (numbers.scaled(42), "42"),
        (numbers.scaled(1_350_000), "1.35 M"),
        (numbers.scaled(7e9), "7.00 B"),
        (numbers.scaled(999_999), "1.00 M"),
        (numbers.scaled(3.4e15, "FLOP"), "3.40 PFLOP"),
        (numbers.scaled(812e9, "FLOP"), "812 GFLOP"),
        (numbers.duration(4.25), "4.2 s"),
        (numbers.duration(192), "3 min 12 s"),
        (numbers.duration(18_420), "5 h 07 min"),
        (numbers.p_value(0.0004), "p < 0.001"),
        (numbers.p_value(0.0423), "p = 0.042"),
        (numbers.p_value(None), ""),
    ],
)
def test_numbers_for_people(shown: str, expected: str) -> None:
    assert shown == expected
