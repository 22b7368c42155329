"""Workers: processes that do jobs of a plan at once, each on a GPU of its own where there are several.

Small models do not fill a machine: two of them on a core each are done sooner than one after another on both cores.
A job on a CPU takes as many threads as its recipe says, whoever does it; others take their share of the cores.
A worker is started when there is work for it and stays for the next plan. It ends with the process that started it,
however that ends, and holds a lock of the store as long as it lives, so that nobody else takes up what it is doing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any, NoReturn, Self

import torch

from ommatidia.core.console import console, use
from ommatidia.core.errors import DiskError, RunError
from ommatidia.core.relay import Listener, Message, Relay
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.run.attempt import run_job
from ommatidia.train.interrupt import Interrupt, StoppedError, watch
from ommatidia.train.ranks import ranks

_POLL = 0.2
"""Seconds after which a signal is noticed at the latest."""

_ENDS_ALL: dict[str, type[RunError]] = {
    "DiskError": DiskError,
    "StoppedError": StoppedError,
    "KeyboardInterrupt": StoppedError,  # of the worker alone; who leads hears of its own
}
"""What a job raises that ends the whole run, and what it is here: words cross between processes, not objects."""

_PRELOADED = ["ommatidia.lab.run.workers", "ommatidia.lab.run.plan", "transformers.models.llama.modeling_llama"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: ``failure`` is None, or one line that says why it is not done."""

    job: Job
    failure: str | None = None
    blocked: bool = False
    """It was never begun, because something that it needs failed."""


def blocked(job: Job, failed: Collection[str]) -> str | None:
    """Why the job cannot be begun, where something that it needs is among the ``failed`` keys."""
    for need in job.needs():
        if need.key in failed:
            return f"not done, because {need.label} failed"
    return None


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def workers(jobs: int, store: Store) -> Iterator[Workers | None]:
    """Workers for so many jobs at once, at most one a core; None where this process does one after another itself,
    as it does for one job at once and as a rank of a distributed run."""
    count = min(jobs, cores())
    if count < 2 or ranks().world > 1:
        yield None
        return
    with Workers(count, store) as several:
        yield several


class Workers:
    """So many processes over one store that this process has locked."""

    def __init__(self, count: int, store: Store) -> None:
        self._store, self._threads = store, max(1, torch.get_num_threads() // count)
        self._workers: list[_Worker | None] = [None] * count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        for worker in filter(None, self._workers):
            worker.end()

    def do(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Every job once, as soon as what it needs is done; outcomes in the order in which they come.

        Raises KeyboardInterrupt or StoppedError after SIGINT or SIGTERM, once trainings have saved, and what ends a
        whole run, such as DiskError.
        """
        waiting, failed = {job.key: job for job in jobs}, set[str]()
        needs = {job.key: {need.key for need in job.needs()} for job in jobs}
        with watch() as interrupt:
            while waiting or any(self._busy()):
                undone = waiting.keys() | {worker.job.key for worker in self._busy() if worker.job}
                for job in list(waiting.values()):
                    if why := blocked(job, failed):
                        failed.add(waiting.pop(job.key).key)
                        yield Outcome(job, why, blocked=True)
                    elif not needs[job.key] & undone and (worker := self._free()):
                        worker.begin(waiting.pop(job.key))
                for outcome in self._wait(interrupt):
                    if outcome.failure is not None:
                        failed.add(outcome.job.key)
                    yield outcome

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker is not None and worker.job is not None]

    def _free(self) -> _Worker | None:
        """A worker without a job, started where there is none yet, or none any more."""
        for number, worker in enumerate(self._workers):
            if worker is not None and worker.job is None and not worker.process.is_alive():
                worker.end()
                worker = None
            if worker is None:
                worker = self._workers[number] = _Worker(number, self._threads, self._store)
            if worker.job is None:
                return worker
        return None

    def _wait(self, interrupt: Interrupt) -> Iterator[Outcome]:
        """What has come to an end, once something has or a little time is over."""
        busy = self._busy()
        ready = connection.wait([one for worker in busy for one in (worker.link, worker.process.sentinel)], _POLL)
        if interrupt.signal is not None:
            self._stop(interrupt.signal)
        for worker in busy:
            if worker.link in ready or worker.process.sentinel in ready:
                yield from self._hear(worker)

    def _hear(self, worker: _Worker) -> Iterator[Outcome]:
        job = worker.job
        assert job is not None
        ended = worker.hear()
        if worker.lost:
            failure = f"its process ended with {worker.lost}; killed, or out of memory?"
            self._store.fail(job.key, job.label, failure, "")
            self._workers[worker.number] = None
            worker.end()
            yield Outcome(job, failure)
        elif ended:
            yield Outcome(job, ended[0])

    def _stop(self, number: signal.Signals) -> NoReturn:
        """Have trainings save and everything end. A second SIGINT does not wait."""
        for worker in self._busy():
            worker.process.terminate()
        for worker in self._busy():
            with contextlib.suppress(StoppedError):
                while worker.process.is_alive() and not worker.hear(patience=_POLL):
                    pass
        text = f"stopped by {number.name}; what was done is kept, run again to go on"
        raise KeyboardInterrupt(text) if number is signal.SIGINT else StoppedError(text)


class _Worker:
    """One process, seen from the one that started it."""

    def __init__(self, number: int, threads: int, store: Store) -> None:
        context = _context()
        self.number = number
        self.job: Job | None = None
        """What it is doing."""
        self.lost = ""
        """How the process ended, where it did without being asked to."""
        self.link, theirs = context.Pipe()
        arguments = (theirs, store.root, number, threads, console().silent)
        self.process: Any = context.Process(target=_serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        theirs.close()
        self._listener = Listener()

    def begin(self, job: Job) -> None:
        self.job = job
        with contextlib.suppress(BrokenPipeError):  # it is lost, as the next look at it will tell
            self.link.send(job)

    def hear(self, patience: float = 0.0) -> list[str | None]:
        """Say what it says. Its job's failure, or None, in a list once the job has ended; raises what it raised."""
        try:
            while self.link.poll(patience):
                kind, *rest = message = self.link.recv()
                if kind == "done":
                    self.job = None
                    return rest
                if kind == "raised":
                    self.job = None
                    name, text = rest
                    raise _ENDS_ALL.get(name, RunError)(text)
                self._listener.hear(message)
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            self.lost = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            self.job = None
        return []

    def end(self) -> None:
        self._listener.close()
        self.process.kill()
        self.process.join()
        self.link.close()


def _context() -> BaseContext:
    """Forked from a server that has imported everything once, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _serve(link: Connection, root: Any, number: int, threads: int, silent: bool) -> None:
    """What a worker process does: jobs, until it is told to end or there is nobody to tell."""
    # Ctrl-C reaches every process of a terminal; the one that leads decides. A training still saves when it comes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    store = Store(root)

    def send(message: Message) -> None:
        link.send(message)

    with store.working(number), use(Relay(quiet=silent, send=send)):
        while True:
            try:
                send(("done", run_job(link.recv(), store)))
            except EOFError:
                return
            except BaseException as error:  # noqa: BLE001 - whoever leads must hear of everything
                known = type(error).__name__ in _ENDS_ALL
                send(("raised", type(error).__name__, str(error) if known else traceback.format_exc()))


def _follow() -> None:
    """End with the process that started this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
