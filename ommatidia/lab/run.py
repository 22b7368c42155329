"""Run a plan on this machine: one job after another or several at once, finished ones skipped, failed ones kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ommatidia.core.console import console
from ommatidia.lab.attempt import attempt
from ommatidia.lab.jobs.job import Job
from ommatidia.lab.plan import Plan
from ommatidia.lab.store import Store
from ommatidia.lab.workers import Outcome, Workers, blocked
from ommatidia.train.ranks import ranks
from ommatidia.train.tracking import Tracking


@dataclass
class RunResult:
    """What happened: keys of jobs done now, jobs found done, and jobs that failed with their error."""

    executed: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    flops: float = 0.0
    seconds: float = 0.0


@contextlib.contextmanager
def writing(store: Store) -> Iterator[None]:
    """Hold the store for this run: rank 0 does, for all ranks. Raises RunError when another run has it."""
    with store.writing() if ranks().leads else contextlib.nullcontext():
        ranks().tell(None)
        yield


def execute(plan: Plan, store: Store, workers: Workers | None = None, *, tracking: Tracking | None = None) -> RunResult:
    """Do what is missing. The caller holds ``store.writing()``. A failed job fails what needs it; the rest goes on.

    ``workers`` do several jobs at once; without them this process does one after another. Ranks of a distributed run
    all call it and walk the same plan. They share one store, which rank 0 writes. Curves of trainings, those found done
    included, go to ``tracking``. Raises ConfigError before anything is begun where a job lacks something of its
    surroundings.
    """
    result = RunResult()
    result.reused = ranks().tell(_finished(plan, store) if ranks().leads else [])
    missing = [job.tracked(tracking) for key, job in plan.jobs.items() if key not in result.reused]
    for job in missing:
        job.check()
    for key in result.reused:
        plan.jobs[key].tracked(tracking).reuse(store)
    if not missing:
        return result
    began = time.monotonic()
    with console().progress("plan", len(missing)) as bar:
        for outcome in _one_by_one(missing, store) if workers is None else workers.do(missing):
            job = outcome.job
            if outcome.failure is None:
                result.executed.append(job.key)
                result.flops += job.price().flops
            else:
                result.failed[job.key] = outcome.failure
                # One failure warns once; what it held up is news, not another failure.
                (console().log if outcome.blocked else console().warn)(f"{job.label}: {outcome.failure}")
            bar.advance(note=job.label)
    result.seconds = time.monotonic() - began
    return result


def _one_by_one(jobs: Sequence[Job], store: Store) -> Iterator[Outcome]:
    failed: set[str] = set()
    for job in jobs:
        why = blocked(job, failed)
        failure = why or attempt(job, store)
        if failure is not None:
            failed.add(job.key)
        yield Outcome(job, failure, blocked=why is not None)


def _finished(plan: Plan, store: Store) -> list[str]:
    """Keys of the jobs that are done."""
    done = [key for key, job in plan.jobs.items() if store.has(job.kind, key)]
    for key in done:
        store.tidy(key)
    return done
