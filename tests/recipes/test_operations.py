"""What the quickstart's steps compute is what the plan says they cost: counted, not timed (benchmarks/flops.py)."""

from __future__ import annotations

import pytest

from benchmarks.flops import Counted, count, formula
from benchmarks.tuned_stage import TunedStage


def over_the_formula(made: TunedStage, counted: Counted) -> float:
    return (counted.matrix + counted.attention) / formula(made, counted.examples)


def test_without_padding_a_step_costs_what_the_formula_says() -> None:
    made = TunedStage.make(micro_batch=1)
    assert over_the_formula(made, count(made, 1)) == pytest.approx(1, abs=0.01)


def test_padding_costs_the_recipe_a_twentieth() -> None:
    made = TunedStage.make()
    counted = count(made, 8)
    assert 1 < over_the_formula(made, counted) <= 1.05
    assert 1 < counted.padded / counted.positions < 1.1
