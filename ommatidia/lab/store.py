"""Store: finished work by key, on disk. Complete or absent, checked by checksum, written by one process at a time.

store/nodes/<kind>/<key>/   node.json (what it is, what it needed, checksums, seconds) and its files
store/work/<key>/           a node in progress: checkpoints and partial files survive a kill and are continued
store/failures/<key>.json   why a node failed, with its traceback; the same to be read in <key>.txt
store/searches/<name>.json  which designs a search asked for, in order
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ommatidia.core.console import console
from ommatidia.core.errors import RunError

_RECORD = "node.json"
_WORKER = ".worker{}.lock"
_PATIENCE = 60.0
"""Seconds that a process may take to notice that the one it works for is gone."""


@dataclass(slots=True)
class Store:
    """One folder of results. Reading needs no lock; ``writing`` holds it."""

    root: Path
    _sound: dict[str, bool] = field(default_factory=dict)

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
        try:
            yield
        finally:
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

    def has(self, kind: str, key: str) -> bool:
        """Whether the node is finished and sound. A damaged one is removed with a warning, so that it is made again."""
        if key not in self._sound:
            folder = self.folder(kind, key)
            if not (folder / _RECORD).is_file():
                return False
            problem = _damage(folder)
            if problem:
                console().warn(f"{folder}: {problem}; it will be made again")
                with self._disk():
                    shutil.rmtree(folder)
                return False
            self._sound[key] = True
        return True

    def record(self, kind: str, key: str) -> dict[str, Any]:
        """What a finished node says of itself. Raises RunError when it is not there."""
        path = self.folder(kind, key) / _RECORD
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from None

    def records(self, kind: str) -> list[dict[str, Any]]:
        """All finished nodes of a kind."""
        folders = sorted((self.root / "nodes" / kind).glob("*/" + _RECORD))
        return [self.record(kind, path.parent.name) for path in folders]

    def scratch(self, key: str) -> Path:
        """The folder a node works in; it survives a kill."""
        folder = self.root / "work" / key
        with self._disk():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, kind: str, key: str, files: Path, record: Mapping[str, Any]) -> None:
        """Make ``files`` (a folder inside the node's scratch) the finished node, in one rename."""
        with self._disk():
            sums = {str(p.relative_to(files)): _checksum(p) for p in sorted(files.rglob("*")) if p.is_file()}
            (files / _RECORD).write_text(json.dumps({**record, "key": key, "kind": kind, "files": sums}, indent=1))
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
        self._sound[key] = True

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
        path = self.root / "failures" / f"{key}.json"
        return json.loads(path.read_text())["error"] if path.is_file() else None

    def write_json(self, name: str, data: Any) -> None:
        """A small document, replaced atomically."""
        path = self.root / name
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".tmp")
            draft.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
            _sync(draft)
            draft.replace(path)

    def read_json(self, name: str) -> Any:
        """Raises RunError when the document is missing or torn."""
        path = self.root / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from None

    def searches(self) -> list[str]:
        """Names of the searches and runs this store knows, newest last."""
        paths = (self.root / "searches").glob("*.json")
        return [path.stem for path in sorted(paths, key=lambda p: p.stat().st_mtime)]


def _damage(folder: Path) -> str | None:
    """What is wrong with a finished node's files, or None."""
    try:
        files: dict[str, str] = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, json.JSONDecodeError, KeyError):
        return f"{_RECORD} is damaged"
    for name, checksum in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _checksum(path) != checksum:
            return f"{name} does not match its checksum"
    return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
