"""Run a plan on this machine: one job after another, finished ones skipped, failed ones kept with their traceback."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import shutil
import subprocess
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

import ommatidia
from ommatidia.core.console import console
from ommatidia.core.errors import DiskError, OmmatidiaError
from ommatidia.lab.jobs.job import Job
from ommatidia.lab.plan import Plan
from ommatidia.lab.store import Store
from ommatidia.train.interrupt import StoppedError
from ommatidia.train.ranks import ranks
from ommatidia.train.watchdog import RanksError


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


def execute(plan: Plan, store: Store) -> RunResult:
    """Do what is missing. The caller holds ``store.writing()``. A failed job fails what needs it; the rest goes on.

    Ranks of a distributed run all call it and walk the same plan. They share one store, which rank 0 writes. Raises
    ConfigError before anything is begun where a job lacks something of its surroundings.
    """
    result = RunResult()
    result.reused = ranks().tell(_finished(plan, store) if ranks().leads else [])
    missing = [job for key, job in plan.jobs.items() if key not in result.reused]
    for job in missing:
        job.check()
    if not missing:
        return result
    with console().progress("plan", len(missing)) as bar:
        for job in missing:
            began = time.monotonic()
            blocked = _blocked(job, result)
            error = blocked or _attempt(job, store)
            result.seconds += time.monotonic() - began
            if error is None:
                result.executed.append(job.key)
                result.flops += job.price().flops
            else:
                result.failed[job.key] = error
                # One failure warns once; what it held up is news, not another failure.
                (console().log if blocked else console().warn)(f"{job.label}: {error}")
            bar.advance(note=job.label)
    return result


def _finished(plan: Plan, store: Store) -> list[str]:
    """Keys of the jobs that are done."""
    done = [key for key, job in plan.jobs.items() if store.has(job.kind, key)]
    for key in done:
        store.tidy(key)
    return done


def _blocked(job: Job, result: RunResult) -> str | None:
    for need in job.needs():
        if need.key in result.failed:
            return f"not done, because {need.label} failed"
    return None


def _attempt(job: Job, store: Store) -> str | None:
    """Do one job; None, or the error's one line. The store itself failing is not the job's failure and goes up."""
    group = ranks()
    console().log(f"{job.kind}: {job.label}")
    began = time.monotonic()
    scratch = store.scratch(job.key)
    out = scratch / "out"
    failure: tuple[str, str] | None = None
    notes: dict[str, Any] = {}
    # What lives now outlives the job: collecting then looks at the job's own objects alone, which is many times faster.
    gc.freeze()
    try:
        if group.leads:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
        if group.leads or job.together:
            notes = job.execute(store, scratch, out)
    except (OSError, SafetensorError) as error:
        place, reason = getattr(error, "filename", None) or store.root, getattr(error, "strerror", None) or error
        raise DiskError(f"{place}: {reason}; nothing finished was lost") from None
    except (StoppedError, DiskError, RanksError):
        raise
    except OmmatidiaError as error:
        failure = str(error), traceback.format_exc()
    except Exception as error:  # noqa: BLE001 - the one place where a trial may fail and the search must not
        failure = f"{type(error).__name__}: {error}", traceback.format_exc()
    finally:
        gc.collect()
        gc.unfreeze()
    failure = group.outcome(failure, together=job.together)
    if failure is not None:
        if group.leads:
            store.fail(job.key, job.label, *failure)
        return failure[0]
    if group.leads:
        store.finish(job.kind, job.key, out, _record(job, notes, time.monotonic() - began))
    return group.tell(None)


def _record(job: Job, notes: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What a finished node says of itself."""
    return {
        "label": job.label,
        "version": job.version,
        "needs": [need.key for need in job.needs()],
        "notes": notes,
        "seconds": seconds,
        "flops": job.price().flops,
        "made": {**provenance(), "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")},
    }


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Versions and machine that made a node."""
    return {
        "ommatidia": ommatidia.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _commit() -> str | None:
    """The commit of the checkout the package runs from; None when it is installed from a wheel."""
    folder = Path(ommatidia.__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
