"""All single designs: each expert alone, and the blind model for comparison (Eagle 3.3, Cambrian-1 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.run.trial import Trial
from ommatidia.lab.search.strategy import Strategy, missing
from ommatidia.models.vision.encoder import EncoderConfig


class Singles(Strategy):
    """Every expert of the pool by itself under one recipe, for every seed."""

    kind: Literal["singles"] = "singles"
    recipe: Recipe
    pool: dict[str, EncoderConfig]
    seeds: tuple[int, ...] = (0,)
    blind: bool = True

    def first(self) -> tuple[Recipe, ...]:
        sets: list[dict[str, EncoderConfig]] = [{name: encoder} for name, encoder in self.pool.items()]
        if self.blind:
            sets.insert(0, {})
        designs = [with_encoders(self.recipe, encoders) for encoders in sets]
        return tuple(design.seeded(seed) for seed in self.seeds for design in designs)

    def propose(self, trials: Sequence[Trial]) -> tuple[Recipe, ...]:
        return missing(self.first(), trials)
