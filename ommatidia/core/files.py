"""The one hashing of files: SHA-256 of their bytes, remembered as long as size, times and inode stay.

A digest is remembered in this process and, by ``FileMemory``, between commands. A file that was written just now is
not remembered: another write within the clock's step would leave its times as they are (git calls it racily clean).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ommatidia.core.config import digest
from ommatidia.core.console import Bar, console
from ommatidia.core.errors import DataError
from ommatidia.core.file_memory import FileMemory, Row, cache_folder

RACY_NS = 2_000_000_000
"""Nanoseconds within which a file counts as just written: the coarsest clock of a file system (FAT) ticks every 2 s."""

_KEPT = 2**18
"""Files whose digest this process remembers."""
_WHOLE = 2**20
"""Bytes up to which a file is read at once."""
_WORTH_KEEPING = 2**20
"""Bytes from which a file that is hashed alone is written into the memory at once."""
_BUNDLE = 32
"""Files that one thread hashes before it hands them over."""
_COMMIT_FILES, _COMMIT_SECONDS = 2_000, 1.0
"""What a kill may lose of a first hashing."""
_MOMENT = 1.0
"""Seconds after which hashing shows its progress."""
_TRIES = 3
"""How often a file that changes while it is read is read again."""

_STATE = struct.Struct("<QqqQ")

T = TypeVar("T")


class Found(NamedTuple):
    """A file that is there."""

    size: int
    """Bytes."""
    digest: str


@lru_cache(maxsize=4)
def _memory(folder: Path, process: int) -> FileMemory:
    return FileMemory(folder / "files.sqlite")


def memory() -> FileMemory:
    """What this machine remembers of files. A process that was forked has a connection of its own."""
    return _memory(cache_folder(), os.getpid())


class _Held(dict[str, bytes]):
    """State and digest by absolute path; the oldest go first."""

    def put(self, path: str, state: bytes, made: bytes) -> None:
        self[path] = state + made
        if len(self) > _KEPT:
            with contextlib.suppress(StopIteration, KeyError, RuntimeError):  # another thread was faster
                del self[next(iter(self))]


_held = _Held()


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes as they are now: nothing is remembered. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, remembered as long as its state stays. Raises DataError when it cannot be read."""
    try:
        state = _state(os.stat(path))
        place = _absolute(os.fspath(path))
        held = _held.get(place)
        if held is None or held[: _STATE.size] != state:
            held = _remembered(place, state) or b"".join(_hashed_alone(place))
        return held[_STATE.size :].hex()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: {reason}; expected a file that can be read") from None
    except ValueError as error:  # a zero byte in a name
        raise DataError(f"{path!r}: {error}; expected a file that can be read") from None


def digest_files(paths: Sequence[str]) -> list[Found | None]:
    """Size and SHA-256 of many files at once, None for what is no file that can be read.

    Each is looked at once (``stat``); only what is not remembered is opened, in several threads.
    """
    found: list[Found | None] = [None] * len(paths)
    unknown: dict[str, list[tuple[int, str, bytes]]] = {}
    for number, path in enumerate(paths):
        try:
            seen = os.stat(path)
        except (OSError, ValueError):
            continue
        if not stat.S_ISREG(seen.st_mode):
            continue
        state, place = _state(seen), _absolute(path)
        held = _held.get(place)
        if held is not None and held[: _STATE.size] == state:
            found[number] = Found(seen.st_size, held[_STATE.size :].hex())
        else:
            unknown.setdefault(os.path.dirname(place), []).append((number, place, state))
    few = len(paths) <= _KEPT
    missing: list[tuple[int, str]] = []
    for folder, some in unknown.items():
        rows = memory().find(folder, [os.path.basename(place) for _, place, _ in some])
        for number, place, state in some:
            row = rows.get(os.path.basename(place))
            if row is None or row[0] != state:
                missing.append((number, place))
                continue
            found[number] = Found(_STATE.unpack(state)[0], row[1].hex())
            if few:
                _held.put(place, *row)
    _hash_all(missing, found)
    return found


def derived(key: str, make: Callable[[], Any]) -> Any:
    """Plain data that follows from the content of files which ``key`` names by digest, remembered between commands."""
    kept = memory().value(key)
    if kept is not None:
        return json.loads(kept)
    made = make()
    memory().keep_value(key, json.dumps(made).encode())
    return made


_settled: ContextVar[dict[str, Any] | None] = ContextVar("settled", default=None)


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Inside, files are taken to stay as they are: what was looked at once is not looked at again."""
    if _settled.get() is not None:
        yield
        return
    with fresh():
        yield


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """``settled``, but nothing that was looked at before counts."""
    token = _settled.set({})
    try:
        yield
    finally:
        _settled.reset(token)


def looked(key: Sequence[str], look: Callable[[], T]) -> T:
    """What ``look`` gives; inside ``settled`` it is asked once for each key."""
    kept = _settled.get()
    if kept is None:
        return look()
    name = digest(list(key))
    if name not in kept:
        kept[name] = look()
    value: T = kept[name]
    return value


def _state(seen: os.stat_result) -> bytes:
    return _STATE.pack(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def _absolute(path: str) -> str:
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _safe(state: bytes, now: int) -> bool:
    """Whether a later write would show in the file's times."""
    _, written, changed, _ = _STATE.unpack(state)
    return changed <= now - RACY_NS and abs(now - written) >= RACY_NS


def _remembered(place: str, state: bytes) -> bytes | None:
    folder, name = os.path.split(place)
    row = memory().find(folder, [name]).get(name)
    if row is None or row[0] != state:
        return None
    _held.put(place, *row)
    return b"".join(row)


def _hashed_alone(place: str) -> tuple[bytes, bytes]:
    now = time.time_ns()
    state, made = _read(place)
    if _safe(state, now):
        _held.put(place, state, made)
        if _STATE.unpack(state)[0] >= _WORTH_KEEPING:
            memory().keep([(place, state, made)])
    return state, made


def _read(path: str) -> tuple[bytes, bytes]:
    """State and SHA-256 of a file that stayed the same while it was read. Raises OSError."""
    for _ in range(_TRIES):
        with open(path, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            if before.st_size <= _WHOLE:
                made = hashlib.sha256(file.readall()).digest()
            else:
                made = hashlib.file_digest(file, "sha256").digest()
            state = _state(os.fstat(file.fileno()))
        if state == _state(before):
            return state, made
    raise OSError(None, "changes while it is read", path)


def _hash_all(missing: Sequence[tuple[int, str]], found: list[Found | None]) -> None:
    """Hash files in threads; what is done is written into the memory every second or so."""
    if not missing:
        return
    few, rows, began = len(missing) <= _KEPT, list[Row](), time.monotonic()
    bundles = [missing[start : start + _BUNDLE] for start in range(0, len(missing), _BUNDLE)]
    with contextlib.ExitStack() as stack:
        bar: Bar | None = None
        written, done = began, 0
        for hashed in _in_threads(stack, bundles):
            for number, place, state, made, safe in hashed:
                found[number] = Found(_STATE.unpack(state)[0], made.hex())
                if safe:
                    rows.append((place, state, made))
                    if few:
                        _held.put(place, state, made)
            if len(rows) >= _COMMIT_FILES or (rows and time.monotonic() - written > _COMMIT_SECONDS):
                memory().keep(rows)
                rows, written = [], time.monotonic()
            done += len(hashed)
            if bar is None and time.monotonic() - began > _MOMENT:
                bar = stack.enter_context(console().progress("hashing files", len(missing), done=done))
            elif bar is not None:
                bar.advance(len(hashed))
        if rows:
            memory().keep(rows)


_Hashed = list[tuple[int, str, bytes, bytes, bool]]
"""Number, path, state, SHA-256, and whether it may be remembered."""


def _in_threads(stack: contextlib.ExitStack, bundles: Sequence[Sequence[tuple[int, str]]]) -> Iterator[_Hashed]:
    """Every bundle's files that could be read, as they come; a few hundred bundles are on their way at one time."""
    if len(bundles) == 1:
        yield _hash_bundle(bundles[0])
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(min(32, 4 * cores))
    stack.callback(pool.shutdown, cancel_futures=True)
    for start in range(0, len(bundles), 256):
        for future in as_completed([pool.submit(_hash_bundle, one) for one in bundles[start : start + 256]]):
            yield future.result()


def _hash_bundle(bundle: Sequence[tuple[int, str]]) -> _Hashed:
    hashed: _Hashed = []
    for number, place in bundle:
        with contextlib.suppress(OSError):
            now = time.time_ns()
            state, made = _read(place)
            hashed.append((number, place, state, made, _safe(state, now)))
    return hashed
