"""Search: a named strategy, run to its end over one store. Stop it anywhere, start it again, it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DesignsFailedError
from ommatidia.core.names import Name
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.scores import scores_of_today
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import RootConfig
from ommatidia.lab.run.execute import RunResult, check_missing, execute
from ommatidia.lab.run.followup import Analysis, audit_jobs, removal_findings
from ommatidia.lab.run.plan import Plan
from ommatidia.lab.run.preflight import check_inputs
from ommatidia.lab.run.record import SearchRecord, load_record
from ommatidia.lab.run.recorder import Recorder
from ommatidia.lab.run.trial import Trial, collect
from ommatidia.lab.run.workers import Workers
from ommatidia.lab.search.strategy import Strategy
from ommatidia.train.ranks import raise_on_all, ranks
from ommatidia.train.tracking import Tracking


class Search(RootConfig):
    """What ``omma search`` runs."""

    name: Name
    strategy: Strategy
    analyses: tuple[Analysis, ...] = ()
    """What else is asked of the best designs when they are found, for the report."""
    jobs: int = Field(1, ge=1)
    """How many nodes are done at once, where the machine has as many cores: more for small models, which leave most of
    a machine idle, and one for each GPU."""
    unhashed: ClassVar[frozenset[str]] = frozenset({"jobs", "imports"})


@dataclass
class SearchResult:
    """The trials in the order they were asked for, what doing them took this time, and the search's record."""

    trials: list[Trial]
    run: RunResult
    jobs: dict[str, Job]
    record: SearchRecord


def start_plan(search: Search) -> Plan:
    """The designs that are known at the start, up to the saved model and what an audit asks."""
    plan = Plan.of(search.strategy.first())
    for trial in plan.trials:
        plan.add(trial.checkpoint)
    seeing = next((trial for trial in plan.trials if trial.recipe.model.encoders), None)
    if "audit" in search.analyses and seeing is not None:
        for job in audit_jobs(seeing).values():
            plan.add(job)
    return plan


def run_search(
    search: Search,
    store: Store,
    *,
    command: str,
    workers: Workers | None = None,
    out: Path | None = None,
    tracking: Tracking | None = None,
    first: Sequence[Callable[[], object]] = (),
) -> SearchResult:
    """Propose, plan, run, until the strategy has no more to ask; ``out`` is where the best model will be put. Every
    design is checked before anything is done of it, with ``first``: further calls that may refuse.

    Raises DesignsFailedError when nothing at all succeeded, and as ``check_missing`` does.

    Ranks of a distributed run all ask the strategy, which answers them alike; rank 0 writes the record.
    """
    choosing = search.strategy.choosing_seeds
    trials: list[Trial] = []
    total = RunResult()
    jobs: dict[str, Job] = {}
    for line in search.strategy.refused():
        console().warn(f"refused: {line}")
    found = check_inputs(search.strategy.first(), *first)
    found.add(removal_findings(search.strategy.horizon(), search.analyses))
    found.finish()
    recorder = Recorder.begin(store, search.name, command=command, definition=search.to_dict(), choosing=choosing)
    checked = check_missing(start_plan(search), store, out=out)
    while recipes := search.strategy.propose(trials):
        plan = Plan.of(recipes)
        console().log(f"{len(recipes)} designs, {len(plan.jobs)} nodes")
        entries = recorder.plan(plan.trials)
        result = execute(plan, store, workers, checked=checked, tracking=tracking)
        jobs |= plan.jobs
        total.executed += result.executed
        total.reused += [key for key in result.reused if key not in total.executed + total.reused]
        total.failed |= result.failed
        total.flops += result.flops
        total.seconds += result.seconds
        scores = scores_of_plan(plan, store)
        recorder.carry_out(entries, scores, total)
        trials += [collect(entry, store, recorder.record.scores) for entry in entries]
    if not trials:
        raise ConfigError(f"search {search.name!r} proposed no design")
    recorder.finish()
    if all(trial.error for trial in trials):
        traces = store.traces(total.failed)
        raise raise_on_all(
            DesignsFailedError(f"every design failed; the first: {trials[0].error}; tracebacks: {traces}")
        )
    return SearchResult(trials, total, jobs, recorder.record)


def scores_of_plan(plan: Plan, store: Store) -> dict[str, str]:
    """Where a plan reuses answers that an older scorer or another judge scored: today's scores, for the record.

    A search compares its designs with one another, so one scorer and one judge score them all.
    """
    answers = ((job.benchmark, job.kind, job.key) for trial in plan.trials for job in trial.predictions.values())
    return ranks().broadcast(scores_of_today(answers, store) if ranks().leads else {})


def recall(store: Store, name: str) -> tuple[SearchRecord, list[Trial]]:
    """The record of a search and its trials, read back from the store alone: nothing is planned, no data are opened.

    Raises RunError.
    """
    record = load_record(store, name)
    return record, [collect(entry, store, record.scores) for entry in record.trials]
