"""Saver: writes the checkpoints of all ranks, in the background where asked, so that training goes on meanwhile."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Mapping
from typing import Any, Self

from ommatidia.core.errors import DiskError, RunError
from ommatidia.train.checkpoint import Checkpoints, Groups, Pieces
from ommatidia.train.pieces import pieces_of, snapshot
from ommatidia.train.ranks import Ranks, raise_on_all

_LONG = 7 * 24 * 3600.0


class Saver:
    """One checkpoint at a time. Every rank calls the same methods in the same order.

    A rank writes what it holds and leaves a note; rank 0 waits for all notes and makes the checkpoint whole. No
    collective runs, so that the background never meets the training's own.
    """

    def __init__(self, checkpoints: Checkpoints, ranks: Ranks, *, background: bool) -> None:
        self._checkpoints, self._ranks, self._background = checkpoints, ranks, background
        self._token = ranks.broadcast(uuid.uuid4().hex)
        self._thread: threading.Thread | None = None
        self._error: RunError | None = None
        self._abandoned = False

    def save(self, step: int, groups: Groups, run: Mapping[str, Any], *, loss: float | None = None) -> None:
        """Write the checkpoint of ``step``, or begin to. Raises what ``finish`` raises, about the one before."""
        self.finish()
        if self._ranks.leads:
            self._checkpoints.drop_drafts()
        self._ranks.gather(None)  # nobody writes into a draft that is being removed
        rank, world = self._ranks.rank, self._ranks.world
        mine = {group: pieces_of(tensors, rank=rank, world=world) for group, tensors in groups.items()}
        if not self._background:
            self._write(step, mine, run, loss)
            self.finish()
            return
        copies = {group: snapshot(pieces) for group, pieces in mine.items()}
        self._thread = threading.Thread(target=self._write, args=(step, copies, run, loss), name="checkpoint")
        self._thread.start()

    def finish(self) -> None:
        """Wait until the last checkpoint is whole. Raises DiskError, on all ranks, when it could not be written."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)
            self._ranks.touch()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Wait for the last checkpoint, but not for ranks that may be gone."""
        if error is None:
            self.finish()
            return
        self._abandoned = not getattr(error, "everywhere", False)
        with contextlib.suppress(RunError):  # the error under way says more
            self.finish()

    def _patience(self) -> None:
        """While waiting for the other ranks' files."""
        self._ranks.check()
        if self._abandoned:
            raise RunError("the run has ended; this checkpoint will not be whole")

    def _write(self, step: int, groups: Pieces, run: Mapping[str, Any], loss: float | None) -> None:
        """One rank's part in a checkpoint, from its files to the news that all of it is whole."""
        board, rank, world = self._ranks.board, self._ranks.rank, self._ranks.world
        key = f"saved/{self._token}/{step}"
        note: list[Any] = [None, {}]
        try:
            try:
                note[1] = self._checkpoints.write(step, groups, rank=rank, world=world)
            except DiskError as error:
                note[0] = str(error)
            board.post(f"{key}/{rank}", note)
            if self._ranks.leads:
                board.post(key, [self._commit(step, key, run, loss)])
            said = board.wait(key, limit=_LONG, meanwhile=self._patience)[0]
        except RunError as error:
            self._error = error
            return
        if said is not None:
            self._error = raise_on_all(DiskError(said))

    def _commit(self, step: int, key: str, run: Mapping[str, Any], loss: float | None) -> str | None:
        """Collect what the ranks wrote and make it whole; the first error if there is one."""
        files: dict[str, str] = {}
        board = self._ranks.board
        for other in range(self._ranks.world):
            error, written = board.wait(f"{key}/{other}", limit=_LONG, meanwhile=self._patience)
            if error is not None:
                return error
            files |= written
        for other in range(self._ranks.world):
            board.drop(f"{key}/{other}")
        try:
            self._checkpoints.commit(step, files, run, loss=loss)
        except DiskError as error:
            return str(error)
        return None
