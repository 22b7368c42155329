"""Checkpoints: what a stage needs to go on exactly where it was. Atomic, verified, plain data (safetensors and JSON).

A checkpoint is a folder ``step-00000120`` with the changed weights, the optimiser's state and a manifest that holds the
SHA-256 of both. It is written beside its place, synced, and renamed: a crash leaves the old one or the new one whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ommatidia.core.config import digest
from ommatidia.core.console import console
from ommatidia.core.errors import DiskError, RunError

_FORMAT = 1
_MANIFEST = "manifest.json"
_WEIGHTS = "trained.safetensors"
_OPTIMIZER = "optimizer.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint on disk. ``run`` is the plain data that says which run it belongs to."""

    folder: Path
    step: int
    run: Mapping[str, Any]

    def weights(self) -> dict[str, Tensor]:
        """ "<part>:<name>" -> tensor."""
        return load_file(self.folder / _WEIGHTS)

    def optimizer(self) -> dict[str, Tensor]:
        """ "<slot>/<part>:<name>" -> tensor."""
        return load_file(self.folder / _OPTIMIZER)


class Checkpoints:
    """The checkpoints of one run, newest last. One process writes to a folder at a time."""

    def __init__(self, folder: Path, *, keep: int = 1) -> None:
        self.folder, self._keep = folder, keep

    def save(
        self, step: int, weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], run: Mapping[str, Any]
    ) -> Path:
        """Write the checkpoint of ``step`` and drop all but the last ``keep``.

        Raises DiskError (path and reason) when it cannot be written; earlier checkpoints are then still there.
        """
        place = self.folder / f"step-{step:08d}"
        draft = self.folder / f".{place.name}.{os.getpid()}.tmp"
        try:
            self._drop_drafts()
            draft.mkdir(parents=True)
            files = {name: _write(draft / name, data) for name, data in ((_WEIGHTS, weights), (_OPTIMIZER, optimizer))}
            manifest = {"format": _FORMAT, "step": step, "run": dict(run), "files": files}
            manifest["check"] = digest(manifest)
            (draft / _MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
            for path in (draft / _MANIFEST, draft):
                _sync(path)
            if place.exists():  # a corrupt one of an earlier life, or the same state again
                shutil.rmtree(place)
            draft.rename(place)
            _sync(self.folder)
            for old in self._folders()[: -self._keep]:
                shutil.rmtree(old)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise DiskError(f"{place}: cannot write the checkpoint: {reason}") from None
        return place

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; a broken one is passed over with a warning."""
        for folder in reversed(self._folders()):
            try:
                return _verified(folder)
            except RunError as error:
                console().warn(f"{folder}: checkpoint not used: {error}")
        return None

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def _drop_drafts(self) -> None:
        for draft in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(draft)


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


def _write(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write and sync one file; its SHA-256."""
    save_file({name: _alone(tensor) for name, tensor in tensors.items()}, path)
    _sync(path)
    return _sha256(path)


def _alone(tensor: Tensor) -> Tensor:
    """The tensor as safetensors wants it: contiguous, and no view into a storage that holds other values as well."""
    tensor = tensor.detach().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


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
            if _sha256(folder / name) != wanted:
                raise RunError(f"{name} is corrupt: its checksum differs from the manifest's")
    except OSError as error:
        raise RunError(f"{Path(error.filename or folder).name}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{_MANIFEST} is torn or no manifest") from None
    return Checkpoint(folder, manifest["step"], manifest["run"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
