"""The loader: resuming is exact, workers change nothing, bad samples are counted and stop the run in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest
import torch

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import Example, Message, Sample
from ommatidia.data.loader import Loader
from ommatidia.data.mixture import Mixture


class Numbers:
    """Records 0..count-1; some cannot be read."""

    def __init__(self, count: int, unreadable: Sequence[int] = ()) -> None:
        self.count, self.unreadable = count, frozenset(unreadable)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index in self.unreadable:
            raise DataError("cannot be read")
        return Sample(f"n{index}", (Message("user", (str(index),)),))


def process(sample: Sample) -> Example:
    ids = torch.tensor([int(sample.question)])
    return Example(sample.id, ids, ids)


def loader(
    count: int = 100, bad: Sequence[int] = (), *, tolerance: float = 0.0, start: int = 0, workers: int = 0
) -> Loader:
    mix = Mixture({"numbers": Numbers(count, bad)}, tolerance=tolerance)
    return Loader(mix, process, batch=8, seed=5, start=start, workers=workers)


def steps(one: Loader, count: int) -> list[list[str]]:
    return [[example.id for example in batch] for batch in islice(one, count)]


def test_steps_are_the_stream_cut_into_batches() -> None:
    mix = Mixture({"numbers": Numbers(100)})
    expected = [[mix.draw(8 * step + k, seed=5).id for k in range(8)] for step in range(30)]
    assert steps(loader(), 30) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_is_straight(workers: int) -> None:
    straight = steps(loader(bad=[3, 50], tolerance=0.1, workers=workers), 40)
    first = loader(bad=[3, 50], tolerance=0.1, workers=workers)
    before = steps(first, 17)
    assert first.step == 17
    assert before + steps(loader(bad=[3, 50], tolerance=0.1, workers=workers, start=first.step), 23) == straight


@pytest.mark.parametrize("workers", [1, 2, 3, 16])
def test_workers_change_nothing(workers: int) -> None:
    def slow(sample: Sample) -> Example:
        time.sleep(0.0005 * (hash(sample.id) % 3))  # finish out of order
        return process(sample)

    inline = loader(bad=[7, 8, 9], tolerance=0.2)
    mix = Mixture({"numbers": Numbers(100, [7, 8, 9])}, tolerance=0.2)
    threaded = Loader(mix, slow, batch=8, seed=5, workers=workers)
    assert steps(threaded, 30) == steps(inline, 30)
    assert threaded.refused == inline.refused
    assert threaded.refused
    assert threaded.seen == inline.seen == 240


def test_prefetch_is_bounded_and_threads_end() -> None:
    done: list[str] = []

    def count(sample: Sample) -> Example:
        done.append(sample.id)
        return process(sample)

    batches: Iterator[list[Example]] = iter(Loader(Mixture({"n": Numbers(100)}), count, batch=8, seed=0, workers=2))
    next(batches)
    time.sleep(0.1)
    assert len(done) <= 4 * 8
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


@pytest.mark.parametrize("workers", [0, 2])
def test_without_tolerance_the_first_bad_sample_stops(workers: int) -> None:
    with pytest.raises(DataError, match="numbers, sample '3': cannot be read"):
        steps(loader(bad=[3], workers=workers), 13)


def test_refused_are_listed_and_replaced() -> None:
    one = loader(bad=[3, 50], tolerance=0.05)
    batches = steps(one, 25)  # two epochs of 100: each bad record is met twice, and perhaps as a substitute
    assert all(len(batch) == 8 for batch in batches)
    assert not {"n3", "n50"} & {name for batch in batches for name in batch}
    assert len(one.refused) >= 4
    assert set(one.refused) == {"numbers, sample '3': cannot be read", "numbers, sample '50': cannot be read"}


def test_what_process_refuses_is_named() -> None:
    def picky(sample: Sample) -> Example:
        if sample.id == "n42":
            raise DataError("too long")
        return process(sample)

    one = Loader(Mixture({"numbers": Numbers(100)}, tolerance=0.1), picky, batch=10, seed=0)
    list(islice(one, 10))
    assert set(one.refused) == {"numbers, sample 'n42': too long"}
    with pytest.raises(DataError, match="sample 'n42': too long"):
        list(islice(Loader(Mixture({"numbers": Numbers(100)}), picky, batch=10, seed=0), 10))


@pytest.mark.parametrize("workers", [0, 2])
def test_more_than_tolerated_stops_and_says_how_many(workers: int) -> None:
    one = loader(1000, bad=range(100), tolerance=0.05, workers=workers)  # 10 % bad, 5 % tolerated
    with pytest.raises(DataError, match=r"\d+ of \d+ samples cannot be used, more than the tolerated 5\.00%"):
        steps(one, 125)
    assert len(one.refused) > 10
    assert one.seen < 500


def test_less_than_tolerated_goes_on() -> None:
    one = loader(1000, bad=range(30), tolerance=0.05)
    steps(one, 250)
    assert 30 <= len(one.refused) <= 0.05 * one.seen


def test_a_source_of_only_bad_records_ends() -> None:
    with pytest.raises(DataError, match="in a row"):
        steps(loader(4, bad=range(4), tolerance=0.9), 1)


def test_other_errors_pass_through() -> None:
    def broken(sample: Sample) -> Example:
        raise ZeroDivisionError

    for workers in (0, 2):
        with pytest.raises(ZeroDivisionError):
            next(iter(Loader(Mixture({"n": Numbers(4)}, tolerance=0.5), broken, batch=2, seed=0, workers=workers)))


@pytest.mark.parametrize(("name", "value"), [("batch", 0), ("start", -1), ("workers", -1)])
def test_bad_arguments(name: str, value: int) -> None:
    given = {"batch": 4, "seed": 0, name: value}
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        Loader(Mixture({"n": Numbers(4)}), process, **given)
