"""Run a plan on this machine: one job after another, finished ones skipped, failed ones kept with their traceback."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import subprocess
import time
import traceback
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


@dataclass
class RunResult:
    """What happened: keys of jobs done now, jobs found done, and jobs that failed with their error."""

    executed: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    flops: float = 0.0
    seconds: float = 0.0


def execute(plan: Plan, store: Store) -> RunResult:
    """Do what is missing. The caller holds ``store.writing()``. A failed job fails what needs it; the rest goes on.

    Raises ConfigError before anything is begun where a job lacks something of its surroundings.
    """
    result = RunResult()
    missing = []
    for key, job in plan.jobs.items():
        if store.has(job.kind, key):
            result.reused.append(key)
            store.tidy(key)
        else:
            missing.append(job)
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


def _blocked(job: Job, result: RunResult) -> str | None:
    for need in job.needs():
        if need.key in result.failed:
            return f"not done, because {need.label} failed"
    return None


def _attempt(job: Job, store: Store) -> str | None:
    """Do one job; None, or the error's one line. The store itself failing is not the job's failure and goes up."""
    console().log(f"{job.kind}: {job.label}")
    began = time.monotonic()
    scratch = store.scratch(job.key)
    out = scratch / "out"
    # What lives now outlives the job: collecting then looks at the job's own objects alone, which is many times faster.
    gc.freeze()
    try:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        notes = job.execute(store, scratch, out)
    except (OSError, SafetensorError) as error:
        place, reason = getattr(error, "filename", None) or store.root, getattr(error, "strerror", None) or error
        raise DiskError(f"{place}: {reason}; nothing finished was lost") from None
    except (StoppedError, DiskError):
        raise
    except OmmatidiaError as error:
        store.fail(job.key, job.label, str(error), traceback.format_exc())
        return str(error)
    except Exception as error:  # noqa: BLE001 - the one place where a trial may fail and the search must not
        store.fail(job.key, job.label, f"{type(error).__name__}: {error}", traceback.format_exc())
        return f"{type(error).__name__}: {error}"
    finally:
        gc.collect()
        gc.unfreeze()
    record = {
        "label": job.label,
        "version": job.version,
        "needs": [need.key for need in job.needs()],
        "notes": notes,
        "seconds": time.monotonic() - began,
        "flops": job.price().flops,
        "made": {**provenance(), "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")},
    }
    store.finish(job.kind, job.key, out, record)
    return None


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
