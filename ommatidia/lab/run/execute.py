"""Run a plan on this machine: one job after another or several at once, finished ones skipped, failed ones kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ommatidia.core.console import console
from ommatidia.lab.nodes.inputs import skipped
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.run.attempt import run_job
from ommatidia.lab.run.plan import Plan
from ommatidia.lab.run.preflight import Preflight, check_jobs
from ommatidia.lab.run.workers import Outcome, Workers, blocked
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
        ranks().broadcast(None)
        yield


def check_missing(plan: Plan, store: Store, *, out: Path | None = None) -> frozenset[str]:
    """Check what is still to be done of a plan, and say what is left out of it; the keys of its jobs.

    Raises ConfigError, DataError or RunError that lists everything which will not work.
    """
    missing = [job for job in plan.jobs.values() if not store.has(job.kind, job.key)] if ranks().leads else []
    (check_jobs(missing, store, out) if ranks().leads else Preflight()).finish()
    return frozenset(plan.jobs)


def execute(
    plan: Plan,
    store: Store,
    workers: Workers | None = None,
    *,
    checked: Collection[str] = (),
    tracking: Tracking | None = None,
) -> RunResult:
    """Do what is missing. The caller holds ``store.writing()``. A failed job fails what needs it; the rest goes on.

    ``workers`` do several jobs at once; without them this process does one after another. Ranks of a distributed run
    all call it and walk the same plan. They share one store, which rank 0 writes. Curves of trainings, those found done
    included, go to ``tracking``. Jobs that are not ``checked`` are checked before anything is begun: raises as
    ``check_missing`` does.
    """
    result = RunResult()
    result.reused = ranks().broadcast(_finished(plan, store) if ranks().leads else [])
    if ranks().leads:
        _tell_skipped(plan, store, result.reused)
    missing = [job.tracked(tracking) for key, job in plan.jobs.items() if key not in result.reused]
    unchecked = [job for job in missing if job.key not in checked]
    (check_jobs(unchecked, store) if ranks().leads else Preflight()).finish()
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
                result.flops += store.record(job.kind, job.key)["flops"]
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
        failure = why or run_job(job, store)
        if failure is not None:
            failed.add(job.key)
        yield Outcome(job, failure, blocked=why is not None)


def _tell_skipped(plan: Plan, store: Store, reused: Sequence[str]) -> None:
    """One line for each reused node that was made without some of its samples."""
    for job in (plan.jobs[key] for key in reused):
        if lines := skipped(store.record(job.kind, job.key)):
            more = "1 sample was" if len(lines) == 1 else f"{len(lines)} samples were"
            console().warn(f"{job.label}, reused: {more} skipped when it was made; the first: {lines[0]}")


def _finished(plan: Plan, store: Store) -> list[str]:
    """Keys of the jobs that are done. A damaged node is removed here, where the store is held, and made again."""
    done = []
    for key, job in plan.jobs.items():
        if not store.exists(job.kind, key):
            continue
        if problem := store.verify(job.kind, key):
            console().warn(f"{store.folder(job.kind, key)}: {problem}; it will be made again")
            store.discard(job.kind, key)
        else:
            store.tidy(key)
            done.append(key)
    return done
