"""Trials built by hand: which questions a design gets right is a plain function of its encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ommatidia.eval.benchmark import Score
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import mean_interval
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.trial import Trial
from ommatidia.lab.search import Strategy

QUESTIONS = 100
Right = Callable[[Recipe], int]
"""How many of the hundred questions of each benchmark a recipe answers right: always the first ones."""


def trial(
    recipe: Recipe, right: int | Mapping[str, int], *, blind: Mapping[str, int] | None = None, error: str | None = None
) -> Trial:
    """A carried-out recipe, or a failed one. ``right`` is for every benchmark, or by benchmark."""
    if error:
        return Trial(recipe, error=error)
    scored = {}
    for benchmark in recipe.benchmarks:
        for mode, counts in (("full", right), ("blind", blind)):
            if counts is None:
                continue
            count = counts if isinstance(counts, int) else counts[benchmark.name]
            scores = tuple(
                Score(f"{benchmark.name}-{i}", float(i < count), cluster=f"image {i}") for i in range(QUESTIONS)
            )
            interval = mean_interval([s.value for s in scores], [s.cluster for s in scores])
            scored[benchmark.name, mode] = Scored(
                benchmark.name, benchmark.group, mode, "", "exact", 1, scores, scores, interval
            )
    return Trial(recipe, scored)  # type: ignore[arg-type]


def by_experts(table: dict[tuple[str, ...], int], *, default: int = 10) -> Right:
    """A hundred questions; ``table`` says how many the design with these encoders gets right."""
    return lambda recipe: table.get(tuple(recipe.model.encoders), default)


def carry_out(
    strategy: Strategy, right: Right, *, failing: Sequence[tuple[str, ...]] = (), most: int = 60
) -> list[Trial]:
    """Answer whatever the strategy proposes until it proposes nothing more."""
    trials: list[Trial] = []
    while recipes := strategy.propose(trials):
        for recipe in recipes:
            broken = tuple(recipe.model.encoders) in failing
            trials.append(trial(recipe, right(recipe), error="the loss is nan" if broken else None))
        assert len(trials) <= most, "a search must end"
    return trials
