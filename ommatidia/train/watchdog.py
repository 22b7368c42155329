"""Watchdog: notices a rank that is gone or hangs, and ends the job with its name instead of waiting for ever.

Every rank's watchdog is a thread that writes down, once a second, that it lives and how far its rank has come. A
collective that waits for a lost rank cannot be called back, so the last resort is to end the process: what was saved
is on disk.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

from ommatidia.core.console import Console
from ommatidia.core.errors import RunError
from ommatidia.train.board import RankNotes

_BEAT = 1.0
"""Seconds between signs of life."""
_DEAD = 60.0
"""Seconds without one after which a rank is gone, whatever the others are doing."""
_SILENT = 3.5
"""Seconds without one after which a rank that a collective failed on is called gone."""
_STRIDE = 1_000_000
"""More marks than there are between two meetings of the ranks."""
_NO_HOST = "rank 0, which holds the ranks' meeting point, is gone"
_GRACE = 15.0
"""Seconds the main thread has to end by itself, with a better message, once another rank has failed."""


class RanksError(RunError):
    """The ranks of a run lost one another, or one of them failed alone: nothing more can be done together."""


class Watchdog:
    """Signs of life of this rank, and an eye on the others'."""

    def __init__(self, board: RankNotes, rank: int, people: Sequence[str]) -> None:
        self._board, self._rank, self._people = board, rank, people
        self._count, self._place, self._since = 0, "starting", time.monotonic()
        self._limit: float | None = None
        self._said = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * _BEAT)

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Inside, a rank that gets no further for so long ends the job."""
        before, self._limit = self._limit, seconds
        self.mark("starting a stage")
        try:
            yield
        finally:
            self._limit = before

    def mark(self, place: str, *, meeting: int | None = None) -> None:
        """This rank got on; ``place`` is what it does now. At a ``meeting`` of all ranks, counted from 1, their counts
        become comparable again: between two, one rank may have had more to do than another."""
        self._count = self._count + 1 if meeting is None else meeting * _STRIDE
        self._place, self._since = place, time.monotonic()

    def touch(self) -> None:
        """This rank waits for something that is not another rank: a disk."""
        self._since = time.monotonic()

    def raise_alarm(self, text: str) -> None:
        """Tell the others that this rank fails alone."""
        self._said = f"rank {self._rank} ({self._people[self._rank]}) failed: {text}"
        with contextlib.suppress(RuntimeError):  # the store may be gone with its host
            self._board.post("alarm", self._said)

    def alarm(self) -> str | None:
        """What another rank said when it failed."""
        said = self._board.read("alarm")
        return None if said == self._said else said

    def lost(self) -> str | None:
        """Who is gone or has failed, after a collective broke; None when everybody lives."""
        try:
            before = self._beats()
            end = time.monotonic() + _SILENT
            while time.monotonic() < end:
                if (said := self.alarm()) is not None:
                    return said
                time.sleep(0.1)
            now = self._beats()
        except RuntimeError:
            return _NO_HOST
        silent = self._silent(before, now)
        return f"{self._names(silent)} gone; last seen {now[silent[0]][2]}" if silent else None

    def _run(self) -> None:
        beats, seen, since = 0, [[0, 0, ""]] * len(self._people), time.monotonic()
        while not self._stop.wait(_BEAT):
            beats, now = beats + 1, time.monotonic()
            try:
                self._board.post(f"beat/{self._rank}", [beats, self._count, self._place])
                if (said := self.alarm()) is not None:
                    return self._end(said)
                if now - since > _DEAD:
                    before, seen, since = seen, self._beats(), now
                    if silent := self._silent(before, seen):
                        last = f"no sign of life for {_DEAD:g} s; last seen {seen[silent[0]][2]}"
                        return self._end(f"{self._names(silent)} gone: {last}")
                if self._limit is not None and now - self._since > self._limit:
                    return self._end(self._late(self._limit), grace=0.0)
            except RuntimeError:  # the store's host is gone: the main thread meets it too, or has ended already
                return self._end(_NO_HOST)
        return None

    def _end(self, text: str, *, grace: float = _GRACE) -> None:
        """End the process, unless the main thread does so in time."""
        if not self._stop.wait(grace):
            Console().error(f"rank {self._rank}: {text}")
            sys.stderr.flush()
            os._exit(1)

    def _late(self, limit: float) -> str:
        """Who keeps the others waiting."""
        before = self._beats()
        time.sleep(_SILENT)
        now = self._beats()
        if silent := self._silent(before, now):
            return f"{self._names(silent)} gone: no sign of life for {limit:g} s; last seen {now[silent[0]][2]}"
        counts = [self._count if rank == self._rank else now[rank][1] for rank in range(len(now))]
        behind = [rank for rank, count in enumerate(counts) if count == min(counts)]
        if len(behind) == len(counts):
            return f"no rank got on for {limit:g} s; this one was {self._place}"
        place = self._place if behind[0] == self._rank else now[behind[0]][2]
        return f"{self._names(behind)} late: engine.timeout is {limit:g} s, and it is still {place}"

    def _silent(self, before: Sequence[Any], now: Sequence[Any]) -> list[int]:
        """Ranks without a sign of life between two looks that have not said goodbye."""
        still = [rank for rank, beat in enumerate(now) if rank != self._rank and beat[0] == before[rank][0]]
        return [rank for rank in still if self._board.read(f"done/{rank}") is None]

    def _names(self, numbers: Sequence[int]) -> str:
        names = [f"rank {number} ({self._people[number]})" for number in numbers]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"

    def _beats(self) -> list[Any]:
        """By rank: beats, how far it has come, and what it does."""
        return [self._board.read(f"beat/{rank}") or [0, 0, "starting"] for rank in range(len(self._people))]
