"""Attempt: one job of a plan, done, or failed with its traceback kept."""

from __future__ import annotations

import contextlib
import gc
import shutil
import time
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError

from ommatidia.core.console import console
from ommatidia.core.errors import DiskError, OmmatidiaError
from ommatidia.core.files import fresh
from ommatidia.lab.nodes.inputs import changed_while_running, keep_inputs
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.provenance import provenance
from ommatidia.lab.nodes.store import Store
from ommatidia.train.interrupt import StoppedError
from ommatidia.train.ranks import ranks
from ommatidia.train.watchdog import RanksError


def run_job(job: Job, store: Store) -> str | None:
    """Do one job; None, or the error's one line. The store itself failing is not the job's failure and goes up.

    What it reads is looked at before and after it: where that has changed, nothing is stored under its key.
    """
    with fresh():
        return _attempt(job, store)


def _attempt(job: Job, store: Store) -> str | None:
    group = ranks()
    console().log(f"{job.kind}: {job.label}")
    began = time.monotonic()
    scratch = store.scratch(job.key)
    out = scratch / "out"
    failure: tuple[str, str] | None = None
    notes: dict[str, Any] = {}
    if (changed := group.broadcast(keep_inputs(job, store) if group.leads else None)) is not None:
        return _failed(job, store, changed, "")
    # What lives now outlives the job: collecting then looks at the job's own objects alone, which is many times faster.
    gc.freeze()
    try:
        if group.leads:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
        if group.leads or job.together:
            with _threads(job.cpu_threads):
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
        return _failed(job, store, *failure)
    if (changed := group.broadcast(changed_while_running(job, store) if group.leads else None)) is not None:
        store.tidy(job.key)
        return _failed(job, store, changed, "")
    if group.leads:
        store.finish(job.kind, job.key, out, _record(job, notes, time.monotonic() - began))
    return group.broadcast(None)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with so many CPU threads, whatever the processor has; with None, with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _failed(job: Job, store: Store, message: str, trace: str) -> str:
    if ranks().leads:
        store.fail(job.key, job.label, message, trace)
    return message


def _record(job: Job, notes: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What a finished node says of itself."""
    return {
        "label": job.label,
        "version": job.version,
        "needs": [need.key for need in job.needs()],
        "inputs": job.inputs,
        "notes": notes,
        "seconds": seconds,
        "flops": job.price().flops,
        "made": {**provenance(), **job.made(), "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")},
    }
