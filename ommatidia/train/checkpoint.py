"""Checkpoints: what a stage needs to go on exactly where it was. Atomic, verified, plain data (safetensors and JSON).

A checkpoint is a folder ``step-00000120`` with tensors in groups (the trained weights, the optimiser's state) and a
manifest that holds the SHA-256 of every file. It is written beside its place, synced, and renamed: a crash leaves the
old one or the new one whole. One process writes one file a group, ``trained.safetensors``; of several each writes its
own, ``trained.00001-of-00002.safetensors``, and any number of processes reads them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ommatidia.core.config import digest
from ommatidia.core.console import console
from ommatidia.core.errors import DiskError, RunError
from ommatidia.core.files import hash_file
from ommatidia.train.pieces import Piece, ShardFile, pieces_of, write_pieces

_FORMAT = 2
_MANIFEST = "manifest.json"

Groups = Mapping[str, Mapping[str, Tensor]]
"""Group -> name -> tensor: "trained" has "<part>:<name>", "optimizer" has "<slot>/<part>:<name>"."""
Pieces = Mapping[str, Mapping[str, Piece]]
"""The same, as one rank writes it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint on disk. ``run`` is the plain data that says which run it belongs to."""

    folder: Path
    step: int
    run: Mapping[str, Any]
    loss: float | None = None
    """What checkpoints are compared by, where the best is kept."""

    def group(self, name: str) -> ShardFile:
        """The tensors of a group, read when they are asked for; none where there is no such group."""
        return ShardFile(sorted(self.folder.glob(f"{name}.*safetensors")))

    def weights(self) -> dict[str, Tensor]:
        """ "<part>:<name>" -> tensor."""
        stored = self.group("trained")
        return {name: stored.whole(name) for name in stored}


class Checkpoints:
    """The checkpoints of one run, newest last. One run writes to a folder at a time.

    Args:
        keep: how many are kept.
        best: whether the one of the lowest loss is kept beside them, as ``best-00000120``.
    """

    def __init__(self, folder: Path, *, keep: int = 1, best: bool = False) -> None:
        self.folder, self._keep, self._best = folder, keep, best

    def save(self, step: int, groups: Groups, run: Mapping[str, Any], *, loss: float | None = None) -> Path:
        """Write the checkpoint of ``step`` by one process and drop all but the last ``keep``.

        Raises DiskError (path and reason) when it cannot be written; earlier checkpoints are then still there.
        """
        self.drop_drafts()
        files = self.write(step, {group: pieces_of(tensors, rank=0, world=1) for group, tensors in groups.items()})
        return self.commit(step, files, run, loss=loss)

    def draft(self, step: int) -> Path:
        """Where the checkpoint of ``step`` is while it is not whole."""
        return self.folder / f".{self.place(step).name}.tmp"

    def place(self, step: int) -> Path:
        """Where it is when it is whole."""
        return self.folder / f"step-{step:08d}"

    def write(self, step: int, groups: Pieces, *, rank: int = 0, world: int = 1) -> dict[str, str]:
        """Write one rank's files into the draft; their SHA-256 by name. Raises DiskError."""
        draft, files = self.draft(step), {}
        number = "" if world == 1 else f".{rank + 1:05d}-of-{world:05d}"
        with self._disk(step):
            draft.mkdir(parents=True, exist_ok=True)
            for group, pieces in groups.items():
                if pieces or world == 1:
                    name = f"{group}{number}.safetensors"
                    files[name] = _write(draft / name, pieces)
        return files

    def commit(self, step: int, files: Mapping[str, str], run: Mapping[str, Any], *, loss: float | None = None) -> Path:
        """Make the draft that all ranks have written the checkpoint of ``step``. Raises DiskError."""
        place, draft = self.place(step), self.draft(step)
        with self._disk(step):
            manifest = {"format": _FORMAT, "step": step, "run": dict(run), "loss": loss, "files": dict(files)}
            manifest["check"] = digest(manifest)
            (draft / _MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
            for path in (draft / _MANIFEST, draft):
                _sync(path)
            if place.exists():  # a corrupt one of an earlier life, or the same state again
                shutil.rmtree(place)
            draft.rename(place)
            _sync(self.folder)
            if self._best and loss is not None:
                self._keep_best(place, loss)
            for old in self._folders()[: -self._keep]:
                shutil.rmtree(old)
        return place

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; a broken one is passed over with a warning."""
        return self._newest(self._folders())

    def best(self) -> Checkpoint | None:
        """The checkpoint of the lowest loss, where it is kept."""
        return self._newest(sorted(self.folder.glob("best-*")))

    def open(self, folder: Path) -> Checkpoint:
        """A checkpoint that another rank has verified."""
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return Checkpoint(folder, manifest["step"], manifest["run"], manifest["loss"])

    def drop_drafts(self) -> None:
        """Remove what a crash left half written. Raises DiskError."""
        with self._disk(0):
            for draft in self.folder.glob(".*.tmp"):
                shutil.rmtree(draft)

    def _newest(self, folders: list[Path]) -> Checkpoint | None:
        for folder in reversed(folders):
            try:
                return _verified(folder)
            except RunError as error:
                console().warn(f"{folder}: checkpoint not used: {error}")
        return None

    def _keep_best(self, place: Path, loss: float) -> None:
        """Keep ``place`` under a name of its own when it is the best: the same files, not copies of them."""
        before = self.best()
        if before is not None and before.loss is not None and before.loss <= loss and before.folder != place:
            return
        draft = self.folder / f".best.{place.name}.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(place, draft, copy_function=_link)
        name = self.folder / place.name.replace("step-", "best-")
        shutil.rmtree(name, ignore_errors=True)
        draft.rename(name)
        for old in self.folder.glob("best-*"):
            if old != name:
                shutil.rmtree(old)

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    @contextlib.contextmanager
    def _disk(self, step: int) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            shutil.rmtree(self.draft(step), ignore_errors=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise DiskError(f"{self.place(step)}: cannot write the checkpoint: {reason}") from None


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Where two plain values differ: "dotted.path: old, now new"."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            if key not in old or key not in new:
                yield f"{path}{key}: {'only now' if key in new else 'no longer there'}"
            else:
                yield from differences(old[key], new[key], f"{path}{key}.")
        if list(old) != list(new) and set(old) == set(new):
            yield f"{path.rstrip('.') or 'the whole'}: another order"
    elif old != new:
        yield f"{path.rstrip('.')}: {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _write(path: Path, pieces: Mapping[str, Piece]) -> str:
    """Write and sync one file; its SHA-256."""
    write_pieces(path, pieces)
    _sync(path)
    return hash_file(path)


def _link(source: str, target: str) -> None:
    """The same file under a second name; a copy where the disk has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _verified(folder: Path) -> Checkpoint:
    """Raises RunError saying what is broken."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        check = manifest.pop("check")
        if digest(manifest) != check:
            raise RunError(f"{_MANIFEST} was changed")
        if manifest["format"] != _FORMAT:
            raise RunError(f"written in format {manifest['format']}, this version reads {_FORMAT}")
        for name, wanted in manifest["files"].items():
            if hash_file(folder / name) != wanted:
                raise RunError(f"{name} is corrupt: its checksum differs from the manifest's")
    except OSError as error:
        raise RunError(f"{Path(error.filename or folder).name}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{_MANIFEST} is torn or no manifest") from None
    return Checkpoint(folder, manifest["step"], manifest["run"], manifest["loss"])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
