"""A list: designs that are written out, because they are no product of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.trial import Trial
from ommatidia.lab.search.strategy import Strategy, missing


class Listed(Strategy):
    """Every design of a list, for every seed."""

    kind: Literal["listed"] = "listed"
    recipes: Annotated[tuple[Recipe, ...], Field(min_length=1)]
    seeds: tuple[int, ...] = (0,)

    def first(self) -> tuple[Recipe, ...]:
        return tuple(recipe.seeded(seed) for seed in self.seeds for recipe in self.recipes)

    def propose(self, trials: Sequence[Trial]) -> tuple[Recipe, ...]:
        return missing(self.first(), trials)
