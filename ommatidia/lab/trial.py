"""Trial: a recipe that has been carried out, with its answers scored. What strategies decide on and reports show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ommatidia.eval.evaluate import Scored
from ommatidia.eval.statistics import Interval, macro_average
from ommatidia.lab.jobs.job import Price
from ommatidia.lab.plan import TrialPlan
from ommatidia.lab.recipe import Mode, Recipe
from ommatidia.lab.store import Store


@dataclass(frozen=True)
class Trial:
    """One recipe's outcome. A failed one has an ``error`` and no scores."""

    recipe: Recipe
    scored: dict[tuple[str, Mode], Scored] = field(default_factory=dict)
    price: Price = Price()
    seconds: float = 0.0
    error: str | None = None
    keys: dict[str, Any] = field(default_factory=dict)
    """Addresses of the nodes behind it: ``training`` in order of stages, ``predictions``, ``checkpoint``."""

    @property
    def design(self) -> str:
        return self.recipe.design()

    @property
    def full(self) -> list[Scored]:
        """The benchmarks' outcomes with pictures, in the recipe's order."""
        return [self.scored[b.name, "full"] for b in self.recipe.benchmarks if (b.name, "full") in self.scored]

    @property
    def average(self) -> float:
        """Mean over benchmarks, each counted once."""
        return sum(s.mean for s in self.full) / len(self.full) if self.full else float("nan")

    def interval(self) -> Interval:
        """The average with its sampling interval."""
        return macro_average(self.full)


def collect(plan: TrialPlan, store: Store) -> Trial:
    """Read a planned recipe's outcome from the store; what is not there is why it failed."""
    keys = {
        "training": [job.key for job in plan.training],
        "predictions": {f"{name}/{mode}": job.key for (name, mode), job in plan.predictions.items()},
        "galleries": {job.benchmark.name: job.key for job in plan.galleries},
        "checkpoint": plan.checkpoint.key,
    }
    for job in plan.jobs():
        if not (job.folder(store) / "node.json").is_file():
            error = store.failure(job.key) or "not finished"
            return Trial(plan.recipe, error=f"{job.label}: {error}", keys=keys)
    scored = {which: job.scored(store) for which, job in plan.predictions.items()}
    price = sum((job.price() for job in plan.training), Price())
    seconds = sum(store.record(job.kind, job.key)["seconds"] for job in plan.training)
    return Trial(plan.recipe, scored, price, seconds, None, keys)


def by_design(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Trials that differ only in their seed, together; designs in the order they first appear."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.design, []).append(trial)
    return groups
