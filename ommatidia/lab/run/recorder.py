"""Recorder: keeps the record of a search up to date while it runs, from its plans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ommatidia.core.config import digest
from ommatidia.core.console import console, shell_line
from ommatidia.core.errors import RunError
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.lab.nodes.ablation import AblationJob
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.prediction import PredictionJob
from ommatidia.lab.nodes.scores import scorer_of
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import TrainingJob
from ommatidia.lab.price.cost import largest_cost
from ommatidia.lab.price.price import Price
from ommatidia.lab.run.execute import RunResult
from ommatidia.lab.run.plan import TrialPlan, plan_trial
from ommatidia.lab.run.record import (
    AnalysisEntry,
    AnswersEntry,
    BenchmarkEntry,
    NodeEntry,
    RunEntry,
    SearchRecord,
    StageEntry,
    TrialEntry,
    has_record,
    left_aside,
    load_record,
    save_record,
    set_aside,
)
from ommatidia.train.ranks import ranks


def record_node(job: Job) -> NodeEntry:
    """What a page needs of one node."""
    return NodeEntry(kind=job.kind, label=job.label, version=job.version, flops=job.price().flops)


def record_trial(plan: TrialPlan) -> TrialEntry:
    """What a page needs of one planned recipe."""
    recipe = plan.recipe
    costs = largest_cost(recipe.model, text_tokens=32, head_tokens=4)
    alone = plan_trial(recipe.model_copy(update={"features": "never"}))
    return TrialEntry(
        recipe=recipe.to_dict(),
        design=recipe.design(),
        label=recipe.label(),
        seed=recipe.seed,
        nodes={job.key: record_node(job) for job in plan.jobs()},
        training=tuple(StageEntry(key=job.key, name=_curve_name(job)) for job in plan.training),
        predictions={f"{name}/{mode}": job.key for (name, mode), job in plan.predictions.items()},
        galleries={job.benchmark.name: job.key for job in plan.galleries},
        checkpoint=plan.checkpoint.key,
        price=sum((job.price() for job in plan.training), Price()),
        flops_alone=sum(job.price().flops for job in alone.jobs()),
        visual_tokens=recipe.model.most_visual_tokens,
        parameters=sum(cost.parameters for cost in costs.values()),
        flops_per_sample=sum(cost.flops for cost in costs.values()),
    )


def _curve_name(job: TrainingJob) -> str:
    """The stage, and the expert where it trains each by itself."""
    expert = next(iter(job.weights.model.encoders), "") if job.stage.scope == "expert" else ""
    return f"{job.stage.name} {expert}".strip()


def record_benchmark(benchmark: BenchmarkConfig, questions: int) -> BenchmarkEntry:
    """What a page needs of one benchmark."""
    scorer, version = scorer_of(benchmark)
    return BenchmarkEntry(
        group=benchmark.group, questions=questions, version=benchmark.version, scorer=scorer, scorer_version=version
    )


def record_analysis(trial: str, jobs: Iterable[PredictionJob]) -> AnalysisEntry:
    """What a page needs of one analysis of the trial with this address."""
    answers = tuple(
        AnswersEntry(
            key=job.key,
            node=record_node(job),
            benchmark=job.benchmark.name,
            mode=job.mode,
            experts=job.taken.experts if isinstance(job, AblationJob) else (),
        )
        for job in jobs
    )
    return AnalysisEntry(trial=trial, answers=answers)


@dataclass
class Recorder:
    """The record of one search, written at its start and after every step.

    What an earlier run of the same definition recorded of a recipe stands until the recipe has been carried out again,
    so a search that is killed never knows less than before it was started.
    """

    store: Store
    record: SearchRecord
    earlier: Mapping[str, TrialEntry] = field(default_factory=dict)
    """By the recipe as it was written."""
    planned: dict[str, TrialEntry] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    @classmethod
    def begin(
        cls, store: Store, name: str, *, command: str, definition: dict[str, Any], choosing: tuple[int, ...] = ()
    ) -> Recorder:
        """Write the record down before anything is planned. ``choosing``: the record's ``choosing_seeds``.

        The record of another search of this name is kept under a name of its own, which is said.
        """
        before = _earlier(store, name)
        if before is None or before.definition != definition:
            if before is not None and ranks().leads and (aside := set_aside(before, store)) is not None:
                again = shell_line("omma", "report", aside, "--store", store.root)
                console().warn(f"{name}: this store has another search of this name; its report stays: {again}")
            before = left_aside(store, name, definition) or SearchRecord(
                name=name, command=command, definition=definition
            )
        now = {"name": name, "command": command, "finished": False, "choosing_seeds": choosing}
        record = before.model_copy(update=now)
        if ranks().leads:
            save_record(record, store)
        return cls(store, record, {_address(entry): entry for entry in before.trials})

    def plan(self, plans: Sequence[TrialPlan]) -> list[TrialEntry]:
        """Add what is about to be carried out."""
        entries = [record_trial(plan) for plan in plans]
        self.planned |= {_address(entry): entry for entry in entries}
        benchmarks = {
            job.benchmark.name: record_benchmark(job.benchmark, job.price().samples)
            for plan in plans
            for (_, mode), job in plan.predictions.items()
            if mode == "full"
        }
        self._write(benchmarks=self.record.benchmarks | benchmarks)
        return entries

    def carry_out(self, entries: Sequence[TrialEntry], scores: Mapping[str, str], run: RunResult) -> None:
        """Say that these were carried out, which scores of theirs were made again, and what all took so far."""
        self.done |= {_address(entry) for entry in entries}
        asked = {key for entry in entries for key in entry.predictions.values()}
        kept = {key: document for key, document in self.record.scores.items() if key not in asked}
        counts = {"executed": len(run.executed), "reused": len(run.reused), "failed": len(run.failed)}
        self._write(
            scores=kept | dict(scores),
            run=RunEntry(**counts, seconds=run.seconds, flops=run.flops),
        )

    def finish(self) -> None:
        """Say that nothing more was asked for; what an earlier run asked for beside it goes."""
        self.earlier = {}
        self._write(finished=True)

    def _write(self, **changes: Any) -> None:
        order = {**self.planned, **self.earlier}
        trials = tuple(
            self.planned[address] if address in self.done or address not in self.earlier else self.earlier[address]
            for address in order
        )
        self.record = self.record.model_copy(update={"trials": trials, **changes})
        if ranks().leads:
            save_record(self.record, self.store)


def _earlier(store: Store, name: str) -> SearchRecord | None:
    """What was recorded under this name before; None where nothing was, or nothing that can be read."""
    if not has_record(store, name):
        return None
    try:
        return load_record(store, name)
    except RunError:
        return None


def _address(entry: TrialEntry) -> str:
    """Of a recipe as it was written, whatever versions its parts had."""
    return digest(entry.recipe)
