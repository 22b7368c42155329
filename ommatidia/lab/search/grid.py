"""Full grid: every design of a space that can work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.trial import Trial
from ommatidia.lab.search.strategy import Space, Strategy, missing


class FullGrid(Strategy):
    """All combinations of the axes, for every seed; impossible ones are refused by name, not skipped in silence."""

    kind: Literal["grid"] = "grid"
    space: Space
    seeds: tuple[int, ...] = (0,)

    def first(self) -> tuple[Recipe, ...]:
        designs, _ = self.space.recipes()
        return tuple(design.seeded(seed) for seed in self.seeds for design in designs)

    def refused(self) -> list[str]:
        return self.space.recipes()[1]

    def propose(self, trials: Sequence[Trial]) -> tuple[Recipe, ...]:
        return missing(self.first(), trials)
