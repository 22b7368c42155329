"""Trial: a recipe that has been carried out, with its answers scored. What strategies decide on and reports show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ommatidia.core.files import settled
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import Comparison, Interval, compare_suites, macro_average
from ommatidia.lab.jobs.job import Price
from ommatidia.lab.plan import TrialPlan
from ommatidia.lab.recipe import Mode, Recipe
from ommatidia.lab.store import Store


@dataclass(frozen=True)
class Trial:
    """One recipe's outcome. A failed one has an ``error`` and no scores."""

    recipe: Recipe
    scored: dict[tuple[str, Mode], Scored] = field(default_factory=dict)
    price: Price = field(default_factory=Price)
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
        """Mean of the benchmark groups' means (Cambrian-1, section 4); NaN for a failed trial."""
        groups: dict[str, list[float]] = {}
        for scored in self.full:
            groups.setdefault(scored.group, []).append(scored.mean)
        means = [sum(values) / len(values) for values in groups.values()]
        return sum(means) / len(means) if means else float("nan")


def average_of(trials: Sequence[Trial], *, confidence: float = 0.95) -> Interval:
    """The average of one design over its seeds: the mean of its benchmark groups' means, with its interval."""
    return macro_average([s for t in trials for s in t.full], by_group=True, confidence=confidence)


def benchmarks_of(trials: Sequence[Trial]) -> dict[str, Interval]:
    """Each benchmark's mean over one design's seeds, with its interval."""
    names = [s.benchmark for s in trials[0].full]
    return {name: macro_average([s for t in trials for s in t.full if s.benchmark == name]) for name in names}


def compare_trials(a: Sequence[Trial], b: Sequence[Trial], *, confidence: float = 0.95) -> Comparison:
    """One design against another on the same questions, over their seeds."""
    return compare_suites([t.full for t in a], [t.full for t in b], by_group=True, confidence=confidence)


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
    with settled():
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


def best_design(trials: Sequence[Trial], *, mixtures: bool = False) -> list[Trial]:
    """The seeds of the design with the best mean average; among designs with several seeds when there are any.

    ``mixtures`` looks at designs with several encoders alone. Empty where none has worked.
    """
    least = 2 if mixtures else 0
    groups = list(by_design([t for t in trials if not t.error and len(t.recipe.model.encoders) >= least]).values())
    most = max((len(group) for group in groups), default=0)
    finals = [group for group in groups if len(group) == most]
    return max(finals, key=lambda group: sum(t.average for t in group) / len(group), default=[])
