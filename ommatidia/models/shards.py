"""Folders of safetensors, one file or many with an index, read and written a tensor at a time.

Memory stays near one shard, however large the model. Headers are checked against the index before a tensor is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ommatidia.core.errors import RunError, unknown
from ommatidia.models.tensors import save_tensors

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_LARGEST = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a folder: the file it lies in, its shape, and its type as safetensors names it (``BF16``)."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


class Shards:
    """The tensors of a folder by name. Only headers are read until a tensor is asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises RunError: no weights, a shard that is missing, truncated, or not the one the index means."""
        self.folder = folder
        self.entries: dict[str, Entry] = {}
        index = folder / INDEX
        placed = _read_index(index) if index.is_file() else None
        files = sorted(set(placed.values())) if placed is not None else _unlisted(folder)
        for name in files:
            found = _header(folder / name, placed)
            if again := next((tensor for tensor in found if tensor in self.entries), None):
                raise RunError(f"{folder / name}: holds {again!r}, which {self.entries[again].file.name} holds too")
            self.entries |= found
        if placed is not None:
            for tensor, name in placed.items():
                if tensor not in self.entries:
                    raise RunError(f"{folder / name}: {tensor!r} is not in this shard, but {INDEX} says so")

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises RunError for a name that is not there, with the nearest that is."""
        if name not in self.entries:
            raise RunError(f"{self.folder}: {unknown('tensor', name, self.entries)}")
        return self.entries[name].shape

    def read(self, name: str) -> Tensor:
        """One tensor. Raises RunError for a name that is not there or a file that breaks off."""
        self.shape(name)
        try:
            with safe_open(self.entries[name].file, framework="pt") as opened:
                return cast(Tensor, opened.get_tensor(name))
        except (OSError, SafetensorError) as error:
            raise RunError(f"{self.entries[name].file}: unreadable or truncated: {error}") from None

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor once, file after file. Raises RunError for a file that breaks off."""
        for file in dict.fromkeys(entry.file for entry in self.entries.values()):
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in list(opened.keys()):
                        if name in self.entries and self.entries[name].file == file:
                            yield name, opened.get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise RunError(f"{file}: unreadable or truncated: {error}") from None


def _unlisted(folder: Path) -> list[str]:
    """The files of a folder without an index: one file of any name, or all of the shards ``-00001-of-0000N``.

    Raises RunError where some of them are missing, or where it is not clear which files are the model.
    """
    if (folder / SINGLE).is_file():
        return [SINGLE]
    found = sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("."))
    numbered = [match for name in found if (match := _NUMBERED.fullmatch(name))]
    if len(found) == 1 and not numbered:
        return found
    wanted = {(match["stem"], int(match["count"])) for match in numbered}
    if len(wanted) == 1:
        stem, count = next(iter(wanted))
        names = [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
        if missing := [name for name in names if name not in found]:
            raise RunError(f"{folder / missing[0]}: missing; expected {count} shards, there are {len(numbered)}")
        return names
    if found:
        raise RunError(
            f"{folder}: {len(found)} files of safetensors and no {INDEX}; which are the model? Expected {SINGLE}, the "
            "index, or shards named model-00001-of-0000N.safetensors"
        )
    return [SINGLE]


def _read_index(path: Path) -> dict[str, str]:
    try:
        placed = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path}: not an index of shards: expected JSON with a weight_map") from None
    return {str(name): str(file) for name, file in placed.items()}


def _header(file: Path, placed: Mapping[str, str] | None) -> dict[str, Entry]:
    try:
        with safe_open(file, framework="pt") as opened:
            found = {}
            for name in list(opened.keys()):
                if placed is not None and placed.get(name) != file.name:
                    what = f"in {placed[name]}" if name in placed else "nowhere"
                    raise RunError(f"{file}: holds {name!r}, which {INDEX} says is {what}")
                piece = opened.get_slice(name)
                found[name] = Entry(file, tuple(piece.get_shape()), str(piece.get_dtype()))
            return found
    except FileNotFoundError:
        raise RunError(f"{file}: missing; expected the safetensors of a model") from None
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: unreadable or truncated: {error}") from None


class ShardWriter:
    """Writes tensors one by one into files of at most ``largest`` bytes; ``close`` names them and their index."""

    def __init__(self, folder: Path, *, largest: int = _LARGEST) -> None:
        self._folder, self._largest = folder, largest
        self._held: dict[str, Tensor] = {}
        self._bytes = self._total = 0
        self._files: list[tuple[Path, list[str]]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Take one tensor. Raises OSError and SafetensorError as the disk does."""
        size = tensor.numel() * tensor.element_size()
        if self._held and self._bytes + size > self._largest:
            self._flush()
        self._held[name] = tensor.detach().cpu().contiguous()
        self._bytes += size
        self._total += size

    def _flush(self) -> None:
        path = self._folder / f".shard-{len(self._files)}.safetensors"
        save_tensors(self._held, path, metadata={"format": "pt"})
        self._files.append((path, list(self._held)))
        self._held, self._bytes = {}, 0

    def close(self) -> None:
        """One file is ``model.safetensors``; several are numbered as transformers numbers them, with an index."""
        self._flush()
        if len(self._files) == 1:
            self._files[0][0].rename(self._folder / SINGLE)
            return
        placed: dict[str, str] = {}
        for number, (path, names) in enumerate(self._files, 1):
            title = f"model-{number:05d}-of-{len(self._files):05d}.safetensors"
            path.rename(self._folder / title)
            placed |= dict.fromkeys(names, title)
        document: dict[str, Any] = {"metadata": {"total_size": self._total}, "weight_map": placed}
        (self._folder / INDEX).write_text(json.dumps(document, indent=2), encoding="utf-8")


def unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each storage once: tied matrices keep their first name, and loading ties them again."""
    seen: set[tuple[int, int]] = set()
    out = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.numel())
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        out[name] = tensor
    return out


@torch.no_grad()
def copy_into(expected: Mapping[str, Tensor], shards: Shards) -> None:
    """Fill a model's tensors from a folder, cast to the type each has there. Raises RunError unless all of it fits."""
    if strangers := [name for name in shards if name not in expected]:
        raise RunError(f"{shards.folder}: {unknown('tensor', min(strangers), expected)}")
    filled = {_place(expected[name]) for name in shards}
    missing = [name for name, tensor in expected.items() if _place(tensor) not in filled]
    if missing:
        raise RunError(f"{shards.folder}: {len(missing)} tensors are missing, the first is {missing[0]!r}")
    for name, tensor in shards.tensors():
        into = expected[name]
        if into.shape != tensor.shape:
            said = f"has shape {tuple(tensor.shape)}, but the config says {tuple(into.shape)}"
            raise RunError(f"{shards.folder}: {name} {said}")
        if into.is_floating_point() != tensor.is_floating_point():
            raise RunError(f"{shards.folder}: {name} is {tensor.dtype}, the model holds {into.dtype}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise RunError(f"{shards.folder}: {name} holds values that are no finite numbers; the weights are damaged")
        into.copy_(tensor)


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()
