"""Trial: a recipe that has been carried out, with its answers scored. What strategies decide on and reports show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from types import MappingProxyType
from typing import cast

from ommatidia.core.errors import DamagedError
from ommatidia.eval.prompts import Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import Interval, Run, RunScores, estimate, macro_mean, noise_model
from ommatidia.eval.suites import difference, signature, suite_scores
from ommatidia.lab.nodes.scores import read_scores
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.price import Price
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.record import ANY_SEEDS, SearchSeeds, TrialEntry


@dataclass(frozen=True)
class Trial:
    """One recipe's outcome. A failed one has an ``error`` and no scores."""

    recipe: Recipe
    scored: dict[tuple[str, Mode], Scored] = field(default_factory=dict)
    price: Price = field(default_factory=Price)
    seconds: float = 0.0
    error: str | None = None
    entry: TrialEntry | None = None
    """What was recorded when it was planned; None for one made by hand."""

    @property
    def design(self) -> str:
        """Address of the design: as recorded, since the versions of scorers that count in it may have been raised."""
        return self.entry.design if self.entry else self.recipe.design()

    @property
    def address(self) -> str:
        """Of the trial among those of a search: its design and its seed."""
        return f"{self.design}/{self.recipe.seed}"

    @property
    def full(self) -> list[Scored]:
        """The benchmarks' outcomes with images, in the recipe's order."""
        return [self.scored[b.name, "full"] for b in self.recipe.benchmarks if (b.name, "full") in self.scored]

    @property
    def average(self) -> float:
        """What designs are ranked by: the mean of ``average_of``; NaN for a failed trial."""
        means, groups = {s.benchmark: s.mean for s in self.full}, {s.benchmark: s.group for s in self.full}
        return macro_mean(means, groups) if means else float("nan")


def scores_of(trials: Iterable[Trial]) -> RunScores:
    """Finished trials as runs by the address of their design, averaged as designs are ranked.

    Raises RunError when they answered unlike questions, or have unlike scorers or judges.
    """
    return suite_scores({Run(trial.design, trial.recipe.seed): trial.full for trial in trials})


def average_of(trials: Sequence[Trial]) -> Interval:
    """What designs are ranked by, over one design's seeds: the mean of the benchmark groups' means (Cambrian-1,
    section 4), with its interval. Of several designs at once, ``report.standing`` knows their common noise."""
    scores = scores_of(trials)
    return estimate(scores, scores.mean_of(trials[0].design), noise_model(scores)).interval()


def comparable(trials: Sequence[Trial]) -> tuple[list[Trial], list[str]]:
    """The trials whose scores can be compared within their design, and a line for each that cannot be.

    A run of which a judge gave no verdict on some answer, or that was scored otherwise, answered other questions than
    the rest. Of each design the runs stay that answered what most of the search's runs answered.
    """
    counts = Counter(signature(trial.full) for trial in trials if not trial.error)
    models = {
        design: max((t for t in group if not t.error), key=lambda t: counts[signature(t.full)], default=None)
        for design, group in by_design(trials).items()
    }
    kept, lines = list[Trial](), list[str]()
    for trial in trials:
        model = models[trial.design]
        reason = "" if trial.error or model is None else difference(trial.full, model.full)
        if reason:
            lines.append(f"{trial.recipe.label()}, seed {trial.recipe.seed}, is left out: {reason}.")
        else:
            kept.append(trial)
    return kept, lines


def told_apart(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, those among them failed whose scores cannot be compared with what most of them answered."""
    finished = [trial for trial in trials if not trial.error]
    counts = Counter(signature(trial.full) for trial in finished)
    model = max(finished, key=lambda trial: counts[signature(trial.full)], default=None)
    return [
        trial if trial.error or model is None or not (reason := difference(trial.full, model.full))
        else replace(trial, scored={}, error=f"not comparable with the other designs: {reason}")
        for trial in trials
    ]  # fmt: skip


def collect(entry: TrialEntry, store: Store, scores: Mapping[str, str] = MappingProxyType({})) -> Trial:
    """Read a recorded recipe's outcome from the store; what is not there, or damaged, is why it failed.

    ``scores``: documents of scores made again, by key.
    """
    recipe = Recipe.parse(entry.recipe)
    if lack := _lacks(entry, store):
        return Trial(recipe, error=lack, entry=entry)
    scored: dict[tuple[str, Mode], Scored] = {}
    seconds = 0.0
    for key in entry.results:
        node = entry.nodes[key]
        try:
            if node.kind == "training":
                seconds += store.record(node.kind, key)["seconds"]
            for name in (name for name, answers in entry.predictions.items() if answers == key):
                benchmark, _, mode = name.rpartition("/")
                scored[benchmark, cast(Mode, mode)] = read_scores(store, node.kind, key, scores)
        except DamagedError as error:
            return Trial(recipe, error=f"{node.label}: damaged: {error.reason}", entry=entry)
    return Trial(recipe, scored, entry.price, seconds, None, entry)


def _lacks(entry: TrialEntry, store: Store) -> str | None:
    """Why a recipe has no outcome; None where all its results are there. What they were made from may be gone."""
    if all(store.exists(entry.nodes[key].kind, key) for key in entry.results):
        return None
    missing = [key for key, node in entry.nodes.items() if not store.exists(node.kind, key)]
    reasons = {key: reason for key in missing if (reason := store.failure(key))}
    first = next(iter(reasons), missing[0])
    return f"{entry.nodes[first].label}: {reasons.get(first, 'not finished')}"


def by_design(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Trials that differ only in their seed, together; designs in the order they first appear."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.design, []).append(trial)
    return groups


def final_designs(groups: Sequence[list[Trial]], seeds: SearchSeeds = ANY_SEEDS) -> list[list[Trial]]:
    """The designs that have all final seeds, each by its trials; where none has, those with the most.

    A base that the search trained more often to compare others with it is one design among the finals, not the only
    one.
    """
    wanted = set(seeds.final)
    every = [group for group in groups if len(wanted) > 1 and wanted <= {trial.recipe.seed for trial in group}]
    most = max((len(group) for group in groups), default=0)
    return every or [group for group in groups if len(group) == most]


def best_design(trials: Sequence[Trial], seeds: SearchSeeds = ANY_SEEDS, *, mixtures: bool = False) -> list[Trial]:
    """The trials of the design with the best mean average, among the final ones (``final_designs``).

    ``mixtures`` looks at designs with several encoders alone. Seeds by which the finals were chosen count only for
    designs that have no others. Empty where none has worked.
    """
    least = 2 if mixtures else 0
    groups = list(by_design([t for t in trials if not t.error and len(t.recipe.model.encoders) >= least]).values())
    finals = final_designs(groups, seeds)
    return max(finals, key=lambda group: _means(group, seeds.choosing), default=[])


def _means(group: Sequence[Trial], choosing: Collection[int]) -> tuple[float, float]:
    """Over fresh seeds, and over all, which decides between equals."""
    every = [trial.average for trial in group]
    fresh = [trial.average for trial in group if trial.recipe.seed not in choosing]
    return mean(fresh or every), mean(every)
