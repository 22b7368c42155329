"""Workers: several jobs at once give what one after another gives, and what befalls one of them stays with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from forked import server
from lab_toys import recipe, results

from ommatidia.core.console import Console, use
from ommatidia.core.contents import Contents
from ommatidia.core.errors import DiskError
from ommatidia.core.relay import Listener, Relay
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.price import Price
from ommatidia.lab.run.execute import RunResult, execute
from ommatidia.lab.run.plan import Plan
from ommatidia.lab.run.workers import Workers, workers
from ommatidia.train.interrupt import StoppedError

PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Errand(Job):
    """A job that does one of a few things and takes no time."""

    kind: ClassVar[str] = "errand"
    version: ClassVar[int] = 1

    name: str
    does: str = "work"
    after: tuple[Errand, ...] = ()

    @property
    def label(self) -> str:
        return self.name

    def identity(self) -> Any:
        return self.name

    def needs(self) -> tuple[Job, ...]:
        return self.after

    def reads(self) -> dict[str, Contents]:
        return {}

    def price(self) -> Price:
        return Price(1.0)

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        (scratch / "begun").touch()
        if self.does == "fail":
            raise ValueError("it does not work")
        if self.does == "die" and not (store.root / "mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.does == "fill the disk":
            raise DiskError("/a/place: no space left")
        if self.does == "wait":
            limit = time.monotonic() + PATIENCE
            while not (store.root / "mended").exists() and time.monotonic() < limit:
                time.sleep(0.01)
        (out / "done.txt").write_text(self.name)
        return {"process": os.getpid()}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers over a store that the tests of this module share."""
    store = Store(tmp_path_factory.mktemp("workers") / "store")
    with use(Console(quiet=True)), store.writing(), Workers(2, store) as several:
        yield several


def do(two: Workers, *errands: Errand) -> RunResult:
    return execute(Plan(jobs={errand.key: errand for errand in errands}), two._store, two)


def test_a_recipe_gives_what_it_gives_one_after_another(tmp_path: Path) -> None:
    plan = Plan.of([recipe("coarse"), recipe("fine"), recipe("coarse", "fine")])
    alone, together = Store(tmp_path / "alone"), Store(tmp_path / "together")
    with use(Console(quiet=True)):
        with alone.writing(), workers(1, alone) as none:
            assert none is None
            execute(plan, alone, none)
        with together.writing(), Workers(2, together) as several:
            result = execute(plan, together, several)
    assert sorted(result.executed) == sorted(plan.jobs)
    ours, theirs = results(alone.root), results(together.root)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_jobs_are_done_at_once_and_never_before_what_they_need(two: Workers) -> None:
    first = Errand("first", "wait")
    second = Errand("second")
    third = Errand("third", after=(first, second))
    mended = two._store.root / "mended"
    # The first one waits until the second one is done: alone, one after another, they would wait for ever.
    watcher = threading.Thread(target=_once_finished, args=(two._store, second, mended))
    watcher.start()
    result = do(two, first, second, third)
    watcher.join()
    mended.unlink()
    assert result.executed == [second.key, first.key, third.key]
    processes = {two._store.record("errand", key)["notes"]["process"] for key in result.executed}
    assert len(processes) == 2
    assert os.getpid() not in processes


def _once_finished(store: Store, job: Job, flag: Path) -> None:
    limit = time.monotonic() + PATIENCE
    while not (job.folder(store) / "node.json").exists() and time.monotonic() < limit:
        time.sleep(0.01)
    flag.touch()


def test_a_failure_fails_what_needs_it_and_nothing_else(two: Workers) -> None:
    bad = Errand("bad", "fail")
    held_up = Errand("held up", after=(bad,))
    more = Errand("more", after=(held_up,))
    good = Errand("good")
    result = do(two, bad, held_up, more, good)
    assert result.executed == [good.key]
    assert result.failed == {
        bad.key: "ValueError: it does not work",
        held_up.key: "not done, because bad failed",
        more.key: "not done, because held up failed",
    }
    assert two._store.failure(bad.key) == "ValueError: it does not work"


def test_a_worker_that_is_killed_fails_its_job_alone(two: Workers) -> None:
    lost, others = Errand("lost", "die"), [Errand(f"other {n}") for n in range(3)]
    result = do(two, lost, *others)
    assert sorted(result.executed) == sorted(other.key for other in others)
    assert result.failed == {lost.key: "its process ended with SIGKILL; killed, or out of memory?"}
    mended = two._store.root / "mended"
    mended.touch()
    assert do(two, lost).executed == [lost.key]
    mended.unlink()


def test_a_worker_that_died_idle_is_replaced(two: Workers) -> None:
    assert len(do(two, Errand("before"), Errand("beside")).executed) == 2
    for worker in filter(None, two._workers):
        worker.process.kill()
        worker.process.join()
    assert len(do(two, Errand("after"), Errand("after too")).executed) == 2


def test_a_full_disk_ends_the_run(two: Workers) -> None:
    with pytest.raises(DiskError, match="/a/place: no space left"):
        do(two, Errand("full", "fill the disk"))


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, StoppedError), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals, error: type[BaseException]) -> None:
    store = Store(tmp_path / "store")
    errand = Errand("long", "wait")

    def interrupt() -> None:
        limit = time.monotonic() + PATIENCE
        while not (store.root / "work" / errand.key / "begun").exists() and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    watcher = threading.Thread(target=interrupt)
    with use(Console(quiet=True)), store.writing(), Workers(2, store) as several:
        watcher.start()
        with pytest.raises(error, match=f"stopped by {number.name}; what was done is kept"):
            execute(Plan(jobs={errand.key: errand}), store, several)
        watcher.join()
    assert not store.has("errand", errand.key)


def test_who_writes_next_waits_for_the_workers_of_the_last_one(tmp_path: Path) -> None:
    store, entered = Store(tmp_path / "store"), threading.Event()
    with store.writing():
        working = store.working(0)
        working.acquire()

    def write() -> None:
        with store.writing():
            entered.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not entered.wait(0.2)
    working.release()
    assert entered.wait(PATIENCE)
    writer.join()


def test_one_job_at_once_needs_no_worker(tmp_path: Path) -> None:
    with workers(1, Store(tmp_path)) as none:
        assert none is None


def test_what_a_worker_says_is_said_here(capsys: pytest.CaptureFixture[str]) -> None:
    with use(Console()):
        listener = Listener()
        relay = Relay(send=listener.hear)
        relay.log("a line")
        relay.warn("a warning")
        relay.table("a title", ["column"], [[1.5]])
        with relay.progress("a bar", 2) as bar:
            bar.advance(note="half")
    said = capsys.readouterr().err
    assert [line.strip() for line in said.splitlines()] == ["a line", "warning: a warning", "a title", "column", "1.5"]


@pytest.fixture(autouse=True, scope="module")
def _workers_come_from_the_server_of_all_tests() -> Iterator[None]:
    server()
    yield
    assert multiprocessing.active_children() == []
