"""Search: a named strategy, run to its end over one store. Stop it anywhere, start it again, it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from ommatidia.core.config import Config
from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DesignsFailedError
from ommatidia.lab.analyses import Analysis
from ommatidia.lab.jobs.job import Job
from ommatidia.lab.plan import Plan, plan_trial
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run import RunResult, execute
from ommatidia.lab.search.strategy import Strategy
from ommatidia.lab.store import Store
from ommatidia.lab.trial import Trial, collect
from ommatidia.lab.workers import Workers
from ommatidia.train.ranks import ranks, together
from ommatidia.train.tracking import Tracking


class Search(Config):
    """What ``omma search`` runs."""

    name: str
    strategy: Strategy
    analyses: tuple[Analysis, ...] = ()
    """What else is asked of the best designs when they are found, for the report."""
    jobs: int = Field(1, ge=1)
    """How many nodes are done at once, where the machine has as many cores: more for small models, which leave most of
    a machine idle, and one for each GPU."""
    unhashed: ClassVar[frozenset[str]] = frozenset({"jobs"})


@dataclass
class SearchResult:
    """The trials in the order they were asked for, and what doing them took this time."""

    trials: list[Trial]
    run: RunResult
    jobs: dict[str, Job]


def run_search(
    search: Search, store: Store, *, command: str, workers: Workers | None = None, tracking: Tracking | None = None
) -> SearchResult:
    """Propose, plan, run, until the strategy has no more to ask. Raises DesignsFailedError when nothing succeeded.

    Ranks of a distributed run all ask the strategy, which answers them alike.
    """
    trials: list[Trial] = []
    total = RunResult()
    jobs: dict[str, Job] = {}
    for line in search.strategy.refused():
        console().warn(f"refused: {line}")
    while recipes := search.strategy.propose(trials):
        plan = Plan.of(recipes)
        console().log(f"{len(recipes)} designs, {len(plan.jobs)} nodes")
        result = execute(plan, store, workers, tracking=tracking)
        jobs |= plan.jobs
        total.executed += result.executed
        total.reused += [key for key in result.reused if key not in total.executed + total.reused]
        total.failed |= result.failed
        total.flops += result.flops
        total.seconds += result.seconds
        trials += [collect(trial, store) for trial in plan.trials]
        if ranks().leads:
            remember(store, search.name, search.to_dict(), trials, total, command)
    if not trials:
        raise ConfigError(f"search {search.name!r} proposed no design")
    if all(trial.error for trial in trials):
        traces = store.traces(total.failed)
        raise together(DesignsFailedError(f"every design failed; the first: {trials[0].error}; tracebacks: {traces}"))
    return SearchResult(trials, total, jobs)


def remember(
    store: Store, name: str, definition: dict[str, Any], trials: Sequence[Trial], run: RunResult, command: str
) -> None:
    """Write down what was asked for, so that a report needs the store alone."""
    store.write_json(
        f"searches/{name}.json",
        {
            "name": name,
            "command": command,
            "definition": definition,
            "trials": [{"recipe": t.recipe.to_dict(), "error": t.error, "keys": t.keys} for t in trials],
            "run": {
                "executed": len(run.executed),
                "reused": len(run.reused),
                "failed": len(run.failed),
                "seconds": run.seconds,
                "flops": run.flops,
            },
        },
    )


def recall(store: Store, name: str) -> tuple[dict[str, Any], list[Trial]]:
    """The record of a search and its trials, read back from the store alone. Raises RunError."""
    record = store.read_json(f"searches/{name}.json")
    trials = [collect(plan_trial(Recipe.parse(entry["recipe"])), store) for entry in record["trials"]]
    return record, trials
