"""Store: finished work by key, on disk. Complete or absent, checked by checksum, written by one process at a time.

Reading changes nothing: a damaged node is reported and left. Only a run that holds the store removes one, before it
makes the node again.

store/nodes/<kind>/<key>/   node.json (what it is, what it needed, checksums, seconds) and its files
store/work/<key>/           a node in progress: checkpoints and partial files survive a kill and are continued
store/inputs/<digest>       what nodes read: a line for each file with its name, size and SHA-256, packed
store/failures/<key>.json   why a node failed, with its traceback; the same to be read in <key>.txt
store/searches/<name>.json  the record of a search or run (``lab/run/record.py``)
store/scores/<key>/         scores made again from the answers of a finished node (``lab/nodes/scores.py``)
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ommatidia.core.checked_json import checked, read_checked
from ommatidia.core.console import console
from ommatidia.core.contents import Contents
from ommatidia.core.errors import DamagedError, RunError
from ommatidia.core.files import hash_file

_RECORD = "node.json"
_WORKER = ".worker{}.lock"
_PATIENCE = 60.0
"""Seconds that a process may take to notice that the one it works for is gone."""


@dataclass(slots=True)
class Store:
    """One folder of results. Reading needs no lock; ``writing`` holds it."""

    root: Path
    _sound: set[tuple[str, str]] = field(default_factory=set)
    _held: bool = False

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store for this process. Raises RunError when another has it or the folder is not writable."""
        owner = self.root / "owner"
        with self._disk():
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                who = owner.read_text() if owner.is_file() else "another process"
                raise RunError(
                    f"{self.root}: {who} is writing this store; wait for it, stop it, or use another --store"
                ) from None
            owner.write_text(f"process {os.getpid()}")
            for place in self.root.glob(_WORKER.format("*")):  # left behind by a process that was killed just now
                with FileLock(place, timeout=_PATIENCE):
                    pass
        self._held = True
        try:
            yield
        finally:
            self._held = False
            owner.unlink(missing_ok=True)
            lock.release()

    def working(self, number: int) -> FileLock:
        """Held by a process that works for the one that is ``writing``: who writes next waits until it is gone."""
        return FileLock(self.root / _WORKER.format(number))

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{error.filename or self.root}: {error.strerror or error}; a store needs a writable disk with room"
            ) from None

    def folder(self, kind: str, key: str) -> Path:
        return self.root / "nodes" / kind / key

    def exists(self, kind: str, key: str) -> bool:
        """Whether the node is there, sound or damaged."""
        return self.folder(kind, key).is_dir()

    def has(self, kind: str, key: str) -> bool:
        """Whether the node is finished and sound; reads all of it the first time."""
        return self.exists(kind, key) and self.verify(kind, key) is None

    def damage(self, kind: str, key: str) -> str | None:
        """What is wrong with a node that is there, as far as its record and the sizes of its files tell; or None."""
        return _damage(self.folder(kind, key))

    def verify(self, kind: str, key: str) -> str | None:
        """What is wrong with a node that is there, by the checksums of all its files; or None."""
        if (kind, key) in self._sound:
            return None
        folder = self.folder(kind, key)
        files = _files(folder)
        problem = _damage(folder) or next(filter(None, (_changed(folder, name, files) for name in files)), None)
        if problem is None:
            self._sound.add((kind, key))
        return problem

    def discard(self, kind: str, key: str) -> None:
        """Remove a damaged node, to make it again. Raises RunError when this process does not hold the store."""
        if not self._held:
            raise RunError(f"{self.folder(kind, key)}: only a run that holds the store removes a node")
        with self._disk():
            shutil.rmtree(self.folder(kind, key))

    def file(self, kind: str, key: str, name: str) -> Path:
        """One file of a finished node, compared with its checksum. Raises DamagedError."""
        folder = self.folder(kind, key)
        problem = _torn(folder) or _changed(folder, name, _files(folder))
        if problem:
            raise DamagedError(f"{folder}: {problem}", reason=problem)
        return folder / name

    def record(self, kind: str, key: str) -> dict[str, Any]:
        """What a finished node says of itself. Raises DamagedError when it cannot be read."""
        folder = self.folder(kind, key)
        if (record := _read(folder)) is None:
            problem = _torn(folder) or "not there"
            raise DamagedError(f"{folder / _RECORD}: cannot be read: {problem}", reason=problem)
        return record

    def records(self, kind: str) -> list[dict[str, Any]]:
        """All finished nodes of a kind. A record that cannot be read is left out with a warning."""
        found = []
        for folder in sorted((self.root / "nodes" / kind).glob("*")):
            if (record := _read(folder)) is None:
                console().warn(f"{folder}: {_RECORD} is damaged; left as it is")
            else:
                found.append(record)
        return found

    def scratch(self, key: str) -> Path:
        """The folder a node works in; it survives a kill."""
        folder = self.root / "work" / key
        with self._disk():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, kind: str, key: str, files: Path, record: Mapping[str, Any]) -> None:
        """Make ``files`` (a folder inside the node's scratch) the finished node, in one rename."""
        with self._disk():
            held = {str(p.relative_to(files)): p for p in sorted(files.rglob("*")) if p.is_file()}
            about = {
                "key": key,
                "kind": kind,
                "files": {name: hash_file(path) for name, path in held.items()},
                "bytes": {name: path.stat().st_size for name, path in held.items()},
            }
            (files / _RECORD).write_text(checked({**record, **about}), encoding="utf-8")
            for path in files.rglob("*"):
                if path.is_file():
                    _sync(path)
            target = self.folder(kind, key)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)  # what a kill left of a damaged node that was being removed
            files.rename(target)
            _sync(target.parent)
            self.tidy(key)
            (self.root / "failures" / f"{key}.json").unlink(missing_ok=True)
            self.trace(key).unlink(missing_ok=True)
        self._sound.add((kind, key))

    def keep_inputs(self, contents: Contents) -> None:
        """Write down what a node reads, once however many read it."""
        path = self.root / "inputs" / f"{contents.digest}.jsonl.gz"
        if path.is_file():
            return
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}")
            draft.write_bytes(gzip.compress(contents.lines, 1, mtime=0))
            draft.replace(path)

    def inputs(self, digest: str) -> Contents | None:
        """What a node read, by the digest that it has of it; None where it was not written down or is damaged."""
        try:
            lines = gzip.decompress((self.root / "inputs" / f"{digest}.jsonl.gz").read_bytes())
        except (OSError, EOFError, zlib.error):
            return None
        found = Contents.read(lines)
        return found if found.digest == digest else None

    def tidy(self, key: str) -> None:
        """Remove the working folder of a finished node; a kill may have come between finishing it and this."""
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    def fail(self, key: str, label: str, message: str, trace: str) -> None:
        """Keep why a node failed; its siblings go on."""
        self.write_json(f"failures/{key}.json", {"key": key, "label": label, "error": message, "traceback": trace})
        with self._disk():
            self.trace(key).write_text(f"{label}\n{message}\n\n{trace}", encoding="utf-8")

    def trace(self, key: str) -> Path:
        """Where the traceback of a node lies that failed by itself."""
        return self.root / "failures" / f"{key}.txt"

    def traces(self, keys: Iterable[str]) -> str:
        """Where the tracebacks of failed nodes lie, as words; of those that failed by themselves."""
        paths = [str(path) for path in map(self.trace, keys) if path.is_file()]
        return ", ".join(paths) or str(self.root / "failures")

    def failure(self, key: str) -> str | None:
        """Why a node failed, as far as that can be read; None where it has not."""
        if not (self.root / "failures" / f"{key}.json").is_file():
            return None
        try:
            return str(self.read_json(f"failures/{key}.json")["error"])
        except (RunError, KeyError):
            return "failed; what is known of it is damaged"

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """A small document with its checksum, replaced atomically."""
        path = self.root / name
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".tmp")
            draft.write_text(checked(data), encoding="utf-8")
            _sync(draft)
            draft.replace(path)

    def read_json(self, name: str) -> dict[str, Any]:
        """Raises RunError when the document is missing, torn or damaged."""
        path = self.root / name
        try:
            return read_checked(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from None

    def searches(self) -> list[str]:
        """Names of the searches and runs this store knows, newest last."""
        paths = (self.root / "searches").glob("*.json")
        return [path.stem for path in sorted(paths, key=lambda p: p.stat().st_mtime)]


def _read(folder: Path) -> dict[str, Any] | None:
    """A node's record; None where it is missing, torn or damaged."""
    try:
        record = read_checked((folder / _RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record.get("files"), dict) else None


def _torn(folder: Path) -> str | None:
    """What is wrong with a node's record; None where it can be read."""
    if _read(folder) is not None:
        return None
    return f"{_RECORD} is damaged" if (folder / _RECORD).is_file() else f"{_RECORD} is missing"


def _files(folder: Path) -> dict[str, str]:
    """Checksums of a node's files, by name."""
    files: dict[str, str] = (_read(folder) or {}).get("files", {})
    return files


def _damage(folder: Path) -> str | None:
    """What the record and a ``stat`` of each file tell of a damaged node; None for a sound one."""
    if problem := _torn(folder):
        return problem
    record = _read(folder) or {"files": {}}
    sizes: Mapping[str, int] = record.get("bytes", {})
    for name in record["files"]:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != sizes.get(name, size):
            return f"{name} has {size} bytes, expected {sizes[name]}"
    return None


def _changed(folder: Path, name: str, files: Mapping[str, str]) -> str | None:
    """What is wrong with one file of a node, by its checksum among those of all its ``files``."""
    path, expected = folder / name, files.get(name)
    if expected is None:
        return f"{name} is not among its files"
    if not path.is_file():
        return f"{name} is missing"
    return None if hash_file(path) == expected else f"{name} does not match its checksum"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
