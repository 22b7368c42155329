"""Grid and Cost arithmetic."""

from __future__ import annotations

import dataclasses

import pytest

from ommatidia.core.grid import Cost, Grid


def test_a_grid_counts_tokens_and_values() -> None:
    grid = Grid(2, 3, 5)
    assert (grid.tokens, grid.values, str(grid)) == (6, 30, "2x3x5")
    assert grid.resized(4, 6) == Grid(4, 6, 5)
    assert grid.with_dim(7) == Grid(2, 3, 7)
    assert grid == Grid(2, 3, 5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.dim = 1  # type: ignore[misc]


def test_costs_add_up_and_repetition_costs_operations_not_parameters() -> None:
    assert Cost(3, 10.0) + Cost(4, 2.5) == Cost(7, 12.5)
    assert Cost(3, 10.0).times(4) == Cost(3, 40.0)
    assert sum([Cost(1, 1.0), Cost(2, 2.0)], Cost()) == Cost(3, 3.0)
