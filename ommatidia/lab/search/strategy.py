"""The contract of a strategy, and the space it walks: a recipe and axes over its dotted paths."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from ommatidia.core.config import Config, overridden
from ommatidia.core.errors import ConfigError
from ommatidia.core.names import fit_name
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.trial import Trial


class Space(Config):
    """A recipe and, for each dotted path, the values to try: ``{"model.fusion.kind": ["channel_concat", ...]}``."""

    recipe: Recipe
    axes: dict[str, tuple[Any, ...]] = Field(default_factory=dict)

    def points(self) -> Iterator[dict[str, Any]]:
        """Every combination, as assignments by path."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def recipes(self) -> tuple[list[Recipe], list[str]]:
        """The designs that can work, and for each that cannot one line that says which and why."""
        good, refused = [], []
        for point in self.points():
            try:
                recipe = overridden(self.recipe, point.items())
                good.append(recipe.model_copy(update={"name": _describe(point)}))
            except ConfigError as error:
                refused.append(f"{_describe(point)}: {error}")
        return good, refused


def _describe(point: dict[str, Any]) -> str:
    return fit_name(", ".join(f"{path.rpartition('.')[2]}={value}" for path, value in point.items()))


class Strategy(Config, family=True):
    """How to search. Stateless: everything it knows it reads off the finished trials, so it can be stopped anywhere."""

    @abstractmethod
    def propose(self, trials: Sequence[Trial]) -> tuple[Recipe, ...]:
        """The recipes to carry out next; empty when the search is over."""

    @abstractmethod
    def first(self) -> tuple[Recipe, ...]:
        """The recipes known before any result: what ``plan`` can price without running."""

    @property
    def choosing_seeds(self) -> tuple[int, ...]:
        """The seeds by which the strategy chose what to train again: scores with them flatter what was chosen, so a
        chosen design's own score is averaged without them. None where every design has the same seeds."""
        return ()

    def horizon(self) -> tuple[Recipe, ...]:
        """A set of recipes as large as the search is expected to become, for pricing; ``first`` where that is all."""
        return self.first()

    def refused(self) -> list[str]:
        """Impossible designs of the space, by name, each with its reason."""
        return []


def missing(recipes: Sequence[Recipe], trials: Sequence[Trial]) -> tuple[Recipe, ...]:
    """The recipes that have no trial yet, each once."""
    done = {trial.recipe.digest() for trial in trials}
    wanted = {recipe.digest(): recipe for recipe in recipes}
    return tuple(recipe for key, recipe in wanted.items() if key not in done)
