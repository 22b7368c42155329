"""Where every member of a tar shard lies, so that one sample is read without unpacking the others.

Members whose names agree up to the first dot of the last part are one sample, as WebDataset has it: ``a/7.jpg`` and
``a/7.json`` are the members jpg and json of ``a/7``. The index is kept beside the shard (``shard.tar.omma-index``) and
made anew when the shard's content has changed (sizes of archives are often equal, and times can be set); where it
cannot be written, it is kept in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ommatidia.core.errors import DataError
from ommatidia.core.files import file_digest

_VERSION = 2
_ENDING = ".omma-index"
_MEMBER = np.dtype([("offset", "<u8"), ("size", "<u8"), ("ending", "<u4"), ("spare", "<u4")])
_SAMPLE = np.dtype([("member_end", "<u4"), ("key_end", "<u4")])
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class TarIndex:
    """The samples of one shard; the arrays are memory-mapped where they were kept."""

    path: Path
    endings: tuple[str, ...]
    members: NDArray[Any]
    samples: NDArray[Any]
    keys: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.samples)

    def key(self, sample: int) -> str:
        """What the names of its members have in common."""
        first = int(self.samples[sample - 1]["key_end"]) if sample else 0
        return bytes(self.keys[first : int(self.samples[sample]["key_end"])]).decode()

    def spans(self, sample: int) -> dict[str, tuple[int, int]]:
        """(offset, size) in bytes of every member by its ending, in the order of the shard."""
        first = int(self.samples[sample - 1]["member_end"]) if sample else 0
        rows = self.members[first : int(self.samples[sample]["member_end"])]
        return {self.endings[int(row["ending"])]: (int(row["offset"]), int(row["size"])) for row in rows}


def tar_index(path: Path, *, root: Path | None = None) -> TarIndex:
    """The index of a shard, kept in ``root`` or beside it. Raises DataError: no tar file, truncated, keys twice."""
    index, faults = inspect_tar(path, root=root)
    if faults:
        raise faults[0]
    return index


def inspect_tar(path: Path, *, root: Path | None = None) -> tuple[TarIndex, tuple[DataError, ...]]:
    """The samples of a shard that can be read, and what is wrong with it. Raises DataError when nothing can be."""
    stamp = _stamp(path)
    return _known(path, _place(path, root), stamp)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{(error.strerror or '').lower()}; expected a tar file", source=str(path)) from None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _place(path: Path, root: Path | None) -> Path:
    if root is None:
        return path.with_name(path.name + _ENDING)
    # Shards of one name may come from several folders.
    return root / f"{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]}-{path.name}{_ENDING}"


@lru_cache(maxsize=2**16)
def _known(path: Path, place: Path, stamp: tuple[int, ...]) -> tuple[TarIndex, tuple[DataError, ...]]:
    """Looked up once a process for each ``stamp``."""
    content = file_digest(path)
    kept = _read(path, place, content)
    if kept is not None:
        return kept, ()
    index, faults = _build(path)
    if not faults:
        head = {"version": _VERSION, "content": content, "endings": index.endings}
        lengths = {"members": len(index.members), "samples": len(index.samples), "keys": len(index.keys)}
        sums = hashlib.sha256(index.members.tobytes() + index.samples.tobytes() + index.keys.tobytes()).hexdigest()
        line = json.dumps({**head, **lengths, "sum": sums}).encode() + b"\n"
        line = b" " * (-len(line) % 8) + line
        _keep(place, [line, index.members.tobytes(), index.samples.tobytes(), index.keys.tobytes()])
    return index, tuple(faults)


def _read(path: Path, place: Path, content: str) -> TarIndex | None:
    """The index as it was kept, or None: there is none, or it is of another shard, or it is damaged."""
    try:
        with place.open("rb") as file:
            head: Mapping[str, Any] = json.loads(file.readline())
            if head["version"] != _VERSION or head["content"] != content or not head["samples"]:
                return None
            at = file.tell()
        # One mapping a shard: a process may have only so many of them.
        whole = np.memmap(place, np.uint8, "r")
        arrays: list[NDArray[Any]] = []
        for dtype, name in ((_MEMBER, "members"), (_SAMPLE, "samples"), (np.dtype(np.uint8), "keys")):
            end = at + dtype.itemsize * head[name]
            arrays.append(whole[at:end].view(dtype))
            at = end
        sums = hashlib.sha256()
        for array in arrays:
            sums.update(array.tobytes())
        if at != place.stat().st_size or sums.hexdigest() != head["sum"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return TarIndex(path, tuple(head["endings"]), *arrays)


def _keep(place: Path, chunks: list[bytes]) -> None:
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.writelines(chunks)
        os.replace(part, place)
    except OSError:
        part.unlink(missing_ok=True) if os.access(place.parent, os.W_OK) else None


@dataclass(slots=True)
class _Found:
    """What was met so far on the way through a shard."""

    members: list[tuple[int, int, int, int]]
    samples: list[tuple[int, int]]
    keys: bytearray
    endings: dict[str, int]
    seen: set[str]
    faults: list[DataError]


def _build(path: Path) -> tuple[TarIndex, list[DataError]]:
    found = _Found([], [], bytearray(), {}, set(), [])
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                _walk(path, tar, found)
                end = tar.offset
        except tarfile.ReadError as error:
            at = found.members[-1] if found.members else (0, 0)
            cause = f"truncated or no tar file ({str(error).lower()}) behind offset {at[0] + at[1]}"
            found.faults.append(DataError(cause, source=str(path), kind="truncated shard"))
        else:
            file.seek(end)
            # A tar file ends in blocks of zeros; the reader takes anything else for an end as well.
            if file.read(_BLOCK) != bytes(_BLOCK):
                cause = f"truncated or damaged at offset {end}: no member and no end of the archive"
                found.faults.append(DataError(cause, source=str(path), kind="truncated shard"))
    if not found.samples and not found.faults:
        found.faults.append(DataError("no samples in the shard", source=str(path), kind="truncated shard"))
    index = TarIndex(
        path, tuple(found.endings), np.array(found.members, _MEMBER), np.array(found.samples, _SAMPLE),
        np.frombuffer(bytes(found.keys), np.uint8),
    )  # fmt: skip
    return index, found.faults


def _walk(path: Path, tar: tarfile.TarFile, found: _Found) -> None:
    current, own, size = None, set[str](), path.stat().st_size
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if not member.isfile() or not stem or stem.startswith("__"):
            continue
        if member.offset_data + member.size > size:
            raise tarfile.ReadError(f"unexpected end of data in {member.name!r}")
        key = f"{folder}/{stem}" if folder else stem
        ending = ending.lower()
        if key != current:
            if key in found.seen:
                found.faults.append(_twice(path, key, member.offset, "members of a sample must stand together"))
            found.seen.add(key)
            current, own = key, set()
            found.keys += key.encode()
            found.samples.append((len(found.members), len(found.keys)))
        elif ending in own:
            found.faults.append(_twice(path, key, member.offset, f"with the ending {ending!r}"))
        own.add(ending)
        number = found.endings.setdefault(ending, len(found.endings))
        found.members.append((member.offset_data, member.size, number, 0))
        found.samples[-1] = (len(found.members), len(found.keys))


def _twice(path: Path, key: str, offset: int, why: str) -> DataError:
    return DataError(f"key {key!r} a second time at offset {offset}; {why}", source=str(path), kind="duplicate key")
