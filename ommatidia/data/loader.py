"""Loader: batches of Examples for numbered optimiser steps. Its whole state is the next step's number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

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


class Loader:
    """Batches of steps ``start``, ``start + 1``, ...: step n holds the stream positions [n * batch, (n + 1) * batch).

    ``process`` turns a Sample into an Example and raises DataError for a bad one, which is then listed in ``refused``
    and replaced by a substitute that depends on (seed, position, attempt) alone. More refused than the mixture
    tolerates stops the iteration with DataError. Worker threads prepare ahead (decoding releases the interpreter lock);
    batches, their order, ``refused`` and the errors are the same for any number of workers.
    """

    def __init__(
        self, mixture: Mixture, process: Process, *, batch: int, seed: int, start: int = 0, workers: int = 0
    ) -> None:
        for name, value, least in (("batch", batch, 1), ("start", start, 0), ("workers", workers, 0)):
            if value < least:
                raise ConfigError(f"loader: {name} is {value}; expected at least {least}")
        self._mixture, self._process = mixture, process
        self._batch, self._seed, self._workers = batch, seed, workers
        self.step = start
        """Number of the next step; start another loader there to go on exactly."""
        self.seen = 0
        """Stream positions handed out by this loader."""
        self.refused: list[str] = []
        """One line for every sample that could not be used, in stream order."""

    def __iter__(self) -> Iterator[list[Example]]:
        for prepared in self._prepared() if self._workers else self._inline():
            self.seen += len(prepared)
            for _, refusals in prepared:
                self.refused += refusals
            self._judge()
            self.step += 1
            yield [example for example, _ in prepared]

    def _inline(self) -> Iterator[list[_Prepared]]:
        while True:
            yield self._positions(self.step * self._batch, (self.step + 1) * self._batch)

    def _prepared(self) -> Iterator[list[_Prepared]]:
        # Several chunks a batch, so that all workers help with the batch that is wanted next.
        size = -(-self._batch // self._workers)
        pending: deque[list[Future[list[_Prepared]]]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="loader")
        try:
            first = self.step
            while True:
                while len(pending) <= _BATCHES_AHEAD:
                    begin, end = first * self._batch, (first + 1) * self._batch
                    chunks = [(at, min(at + size, end)) for at in range(begin, end, size)]
                    pending.append([pool.submit(self._positions, *chunk) for chunk in chunks])
                    first += 1
                yield [prepared for future in pending.popleft() for prepared in future.result()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _positions(self, begin: int, end: int) -> list[_Prepared]:
        return [self._position(position) for position in range(begin, end)]

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
            raise DataError(
                f"{len(self.refused)} of {self.seen} samples cannot be used, more than the tolerated {tolerance:.2%}. "
                f"The first: {listed}"
            )
