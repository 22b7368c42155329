"""A search killed without warning at any moment, started again, ends as if nothing had happened."""

from __future__ import annotations

import time
from glob import glob
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from forked import server
from lab_toys import carry_out_singles, results, singles

from ommatidia.lab.nodes.store import Store
from ommatidia.lab.search.search import recall

PATIENCE = 60.0  # seconds


def start(folder: Path, jobs: int) -> ForkServerProcess:
    process = server().Process(target=carry_out_singles, args=(str(folder / "store"), str(folder / "out"), jobs))
    process.start()
    return process


def progress(folder: Path) -> int:
    """How far a search is: finished nodes, and steps or rows of one that has begun."""
    store = folder / "store"
    # The module's glob passes over folders that the child removes meanwhile; the one of pathlib raises.
    begun = [p for p in glob("work/*/*", root_dir=store) if not p.endswith("/out")] + glob(
        "work/*/checkpoints/*", root_dir=store
    )
    return 10 * sum(1 for _ in store.glob("nodes/*/*/node.json")) + len(begun)


def kill_at(folder: Path, wanted: int, jobs: int) -> bool:
    """Start a search and kill it when it is so far; whether it was still running then."""
    process = start(folder, jobs)
    limit = time.monotonic() + PATIENCE
    while progress(folder) < wanted and process.is_alive():
        assert time.monotonic() < limit
        time.sleep(0.001)
    running = process.is_alive()
    process.kill()
    process.join()
    record, trials = recall(Store(folder / "store"), singles().name)  # whenever the kill came, the record is whole
    assert not record.finished
    assert len(trials) == len(singles().strategy.first())
    return running


def finish(folder: Path, jobs: int) -> None:
    process = start(folder, jobs)
    process.join(PATIENCE)
    assert process.exitcode == 0


@pytest.mark.slow
def test_a_killed_search_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    finish(undisturbed, jobs=1)
    whole = len(list((undisturbed / "store" / "nodes").glob("*/*")))
    # In the first training, between nodes, in the second training, and while answering; once with workers, which must
    # end with the process that leads them.
    stops = [kill_at(disturbed, wanted, jobs) for wanted, jobs in ((2, 1), (31, 1), (64, 2), (95, 1))]
    assert all(stops), "the search was over before it was killed; it proves nothing"
    finish(disturbed, jobs=1)
    ours, theirs = results(undisturbed / "store"), results(disturbed / "store")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert whole == len({Path(name).parts[2] for name in ours})
    (_, left), (_, right) = (recall(Store(f / "store"), singles().name) for f in (undisturbed, disturbed))
    assert [(t.recipe.digest(), t.average) for t in left] == [(t.recipe.digest(), t.average) for t in right]
    assert not any((disturbed / "store" / "work").iterdir())
