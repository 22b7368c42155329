"""Threads are the recipe's: the same key gives the same numbers however the process was started, and another number
of threads is another key."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lab_toys import recipe

from ommatidia.core.config import override
from ommatidia.core.console import Console, use
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError
from ommatidia.lab.nodes.job import Computation, Job
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.price import Price
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.followup import ablation_jobs
from ommatidia.lab.run.plan import Plan, plan_trial
from ommatidia.lab.run.workers import Workers, workers

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


@dataclass(frozen=True)
class Sum(Computation):
    """A sum so long that its last bits depend on the number of threads."""

    kind: ClassVar[str] = "sum"
    version: ClassVar[int] = 1

    name: str
    device: str = "cpu"
    threads: int = 2
    fails: bool = False

    @property
    def label(self) -> str:
        return self.name

    def identity(self) -> Any:
        return [self.name, *self.arithmetic()]

    def needs(self) -> tuple[Job, ...]:
        return ()

    def reads(self) -> dict[str, Contents]:
        return {}

    def price(self) -> Price:
        return Price()

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        if self.fails:
            raise ValueError("no sum")
        numbers = torch.randn(2**22, generator=torch.Generator().manual_seed(0))
        total, threads = float(numbers.sum(dtype=torch.float32)), torch.get_num_threads()
        return {"total": total.hex(), "threads": threads}


def notes(folder: Path, *jobs: Sum, several: int = 1) -> list[dict[str, Any]]:
    """What the jobs say, done in this process or by so many workers."""
    store = Store(folder)
    with use(Console(quiet=True)), store.writing():
        if several == 1:
            with workers(1, store) as none:
                execute(Plan(jobs={job.key: job for job in jobs}), store, none)
        else:
            with Workers(several, store) as others:
                execute(Plan(jobs={job.key: job for job in jobs}), store, others)
    return [store.record(job.kind, job.key)["notes"] for job in jobs if store.has(job.kind, job.key)]


def said(folder: str) -> None:
    """The threads that this process has, then what a job with two says; for a process of its own."""
    (note,) = notes(Path(folder), Sum("alone"))
    sys.stdout.write(f"{torch.get_num_threads()} {note['threads']} {note['total']}\n")


@pytest.mark.slow
def test_one_key_gives_the_same_numbers_however_the_process_was_started(tmp_path: Path) -> None:
    (here,) = notes(tmp_path / "here", Sum("alone"))
    assert here["threads"] == 2
    path = os.pathsep.join(map(str, (ROOT, HERE)))
    started = {}
    for count in (1, 2):
        program = f"import test_threads; test_threads.said({str(tmp_path / str(count))!r})"
        there = {**os.environ, "OMP_NUM_THREADS": str(count), "PYTHONPATH": path}
        started[count] = subprocess.Popen([sys.executable, "-c", program], env=there, stdout=subprocess.PIPE, text=True)
    for count, process in started.items():
        assert process.communicate()[0].split() == [str(count), "2", here["total"]]
    others = notes(tmp_path / "several", Sum("alone"), Sum("beside", threads=1), several=2)
    assert [other["threads"] for other in others] == [2, 1]
    assert others[0]["total"] == here["total"]


def test_the_number_is_as_before_afterwards(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    notes(tmp_path, Sum("more", threads=before + 1), Sum("no", threads=before + 1, fails=True))
    assert torch.get_num_threads() == before
    (elsewhere,) = notes(tmp_path, Sum("elsewhere", device="cuda", threads=before + 1))
    assert elsewhere["threads"] == before  # a GPU's job leaves the CPU's threads alone


def test_threads_are_in_the_keys_of_what_a_cpu_computes_and_of_nothing_else() -> None:
    one = recipe("coarse", "vit", threads=1)
    two = override(one, "threads", 2)
    ours, theirs = plan_trial(one), plan_trial(two)
    computed = [job for job in ours.jobs() if isinstance(job, Computation)]
    assert {job.kind for job in computed} == {"features", "training", "prediction"}
    assert not {job.key for job in computed} & {job.key for job in theirs.jobs()}
    assert [job.key for job in ours.galleries] == [job.key for job in theirs.galleries]
    asked, other = (next(iter(ablation_jobs(trial, "zero").values())) for trial in (ours, theirs))
    assert (asked.threads, other.threads) == (1, 2)
    assert asked.key != other.key
    assert one.design() != two.design()
    gpus = [override(value, "device", "cuda:0") for value in (one, two)]
    assert gpus[0].digest() == gpus[1].digest()
    keys = [[job.key for job in plan_trial(gpu).jobs()] for gpu in gpus]
    assert keys[0] == keys[1]
    assert replace(computed[0], device="cuda").key not in {job.key for job in computed}


@pytest.mark.parametrize("threads", [0, -1])
def test_there_is_at_least_one(threads: int) -> None:
    with pytest.raises(ConfigError, match="threads"):
        recipe("coarse", threads=threads)
