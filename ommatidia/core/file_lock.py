"""One writer at a time: a lock on a file that ends with the process, so that a kill leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ommatidia.core.errors import DiskError, RunError


@contextlib.contextmanager
def only_writer(output: Path) -> Iterator[None]:
    """Hold the right to write ``output`` during the block; its lock is the hidden file ``.NAME.lock`` beside it.

    Raises:
        RunError: another process writes it now.
        DiskError: the lock cannot be made.
    """
    path = output.with_name(f".{output.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        while not _is_there(path, lock):  # its last holder took it away between our opening and our locking it
            os.close(lock)
            lock = _lock(path)
    except BlockingIOError:
        raise RunError(f"{output}: another process is writing it; wait for it, or name another output") from None
    except OSError as error:
        raise DiskError(f"{output}: cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _is_there(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False
