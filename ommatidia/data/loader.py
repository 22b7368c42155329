"""Loader: batches of Examples for numbered optimiser steps. Its whole state is the next step's number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import Example, Sample
from ommatidia.data.mixture import Mixture

_ATTEMPTS = 64
"""Substitutes tried for one position before its source is called unusable."""

_EARLY = 200
"""Samples: below this many the fraction of refused ones is not yet judged sample by sample, but as of so many."""

_BATCHES_AHEAD = 2
"""Batches that worker threads may prepare before they are wanted."""

Process = Callable[[Sample], Example]

_Prepared = tuple[Example, list[str]]
_Note = tuple[int, list[str], dict[str, str] | None]
"""What happened at a position: samples refused there, or the error that ends the run."""


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True, slots=True)
class Share:
    """Which positions of every step one of several processes prepares: from ``rank`` on, every ``world``-th.

    ``gather`` brings together what each process gives it, in rank order; all of them call it once a step.
    """

    rank: int = 0
    world: int = 1
    gather: Callable[[Any], list[Any]] = _alone


class _UnusableError(Exception):
    """Nothing can stand at a position."""

    def __init__(self, position: int, error: DataError) -> None:
        self.position, self.error = position, error
        super().__init__(position)


class Loader:
    """Batches of steps ``start``, ``start + 1``, ...: step n holds the stream positions [n * batch, (n + 1) * batch).

    ``process`` turns a Sample into an Example and raises DataError for a bad one, which is then listed in ``refused``
    and replaced by a substitute that depends on (seed, position, attempt) alone. More refused than the mixture
    tolerates stops the iteration with DataError. Worker threads prepare ahead (decoding releases the interpreter lock);
    batches, their order, ``refused`` and the errors are the same for any number of workers.

    Of several processes each gets the examples of its ``share``; ``refused``, ``seen`` and the errors are those of all.
    """

    def __init__(
        self,
        mixture: Mixture,
        process: Process,
        *,
        batch: int,
        seed: int,
        start: int = 0,
        workers: int = 0,
        share: Share | None = None,
    ) -> None:
        for name, value, least in (("batch", batch, 1), ("start", start, 0), ("workers", workers, 0)):
            if value < least:
                raise ConfigError(f"loader: {name} is {value}; expected at least {least}")
        self._mixture, self._process = mixture, process
        self._share = share or Share()
        if batch < self._share.world:
            raise ConfigError(
                f"loader: batch is {batch}; expected at least one sample for each of {self._share.world} ranks"
            )
        self._batch, self._seed, self._workers = batch, seed, workers
        self.step = start
        """Number of the next step; start another loader there to go on exactly."""
        self.seen = 0
        """Stream positions handed out by this loader."""
        self.refused: list[str] = []
        """One line for every sample that could not be used, in stream order."""

    def __iter__(self) -> Iterator[list[Example]]:
        prepared = self._prepared() if self._workers else self._inline()
        try:
            while True:
                examples, found = self._next(prepared)
                self.seen += self._batch
                self._hear(note for notes in self._share.gather(found) for note in notes)
                self._judge()
                self.step += 1
                yield examples
        finally:
            prepared.close()

    def _next(self, prepared: Iterator[list[_Prepared]]) -> tuple[list[Example], list[_Note]]:
        """This process's examples of the step, and for all to know: what was refused, or why it cannot go on."""
        try:
            ready = next(prepared)
        except _UnusableError as unusable:
            error = unusable.error
            cause = {"cause": error.cause, "source": error.source, "sample": error.sample}
            return [], [(unusable.position, [], cause)]
        begin = self.step * self._batch + self._share.rank
        refused: list[_Note] = [
            (begin + i * self._share.world, refusals, None) for i, (_, refusals) in enumerate(ready) if refusals
        ]
        return [example for example, _ in ready], refused

    def _hear(self, notes: Iterable[_Note]) -> None:
        """Take in what happened at all positions of the step, in stream order."""
        for _, refusals, cause in sorted(notes, key=lambda note: note[0]):
            if cause is not None:
                raise _everywhere(DataError(**cause))
            self.refused += refusals

    def _mine(self, step: int) -> range:
        """This process's positions of a step."""
        return range(step * self._batch + self._share.rank, (step + 1) * self._batch, self._share.world)

    def _inline(self) -> Generator[list[_Prepared], None, None]:
        while True:
            yield self._positions(self._mine(self.step))

    def _prepared(self) -> Generator[list[_Prepared], None, None]:
        # Several chunks a batch, so that all workers help with the batch that is wanted next.
        size = -(-self._batch // (self._workers * self._share.world))
        pending: deque[list[Future[list[_Prepared]]]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="loader")
        try:
            first = self.step
            while True:
                while len(pending) <= _BATCHES_AHEAD:
                    mine = self._mine(first)
                    chunks = [mine[at : at + size] for at in range(0, len(mine), size)]
                    pending.append([pool.submit(self._positions, chunk) for chunk in chunks])
                    first += 1
                yield [prepared for future in pending.popleft() for prepared in future.result()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _positions(self, positions: range) -> list[_Prepared]:
        ready = []
        for position in positions:
            try:
                ready.append(self._position(position))
            except DataError as error:
                raise _UnusableError(position, error) from None
        return ready

    def _position(self, position: int) -> _Prepared:
        refusals: list[str] = []
        for attempt in range(_ATTEMPTS):
            try:
                if attempt == 0:
                    sample = self._mixture.draw(position, seed=self._seed)
                else:
                    sample = self._mixture.substitute(position, seed=self._seed, attempt=attempt)
                return self._example(sample, position), refusals
            except DataError as error:
                if self._mixture.tolerance == 0:
                    raise
                refusals.append(str(error))
        raise DataError(
            f"{_ATTEMPTS} unusable samples in a row at stream position {position}; the last one: {refusals[-1]}"
        )

    def _example(self, sample: Sample, position: int) -> Example:
        try:
            return self._process(sample)
        except DataError as error:
            name, _ = self._mixture.locate(position, seed=self._seed)
            raise error.at(source=name, sample=sample.id) from None

    def _judge(self) -> None:
        """Raise DataError when more samples were refused than the mixture tolerates."""
        tolerance = self._mixture.tolerance
        if len(self.refused) > max(1.0, tolerance * max(self.seen, _EARLY)):
            listed = "; ".join(self.refused[:3])
            raise _everywhere(
                DataError(
                    f"{len(self.refused)} of {self.seen} samples cannot be used, more than the tolerated "
                    f"{tolerance:.2%}. The first: {listed}"
                )
            )


def _everywhere(error: DataError) -> DataError:
    """Every process that shares the stream raises it."""
    error.everywhere = True
    return error
