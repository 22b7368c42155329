"""Shards: the samples of many tar files as one list, and the pattern that names the files."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError
from ommatidia.core.json_text import parse_json
from ommatidia.core.names import number_order
from ommatidia.core.picture import SpanPicture
from ommatidia.core.source import Looked
from ommatidia.data.json_records import Examined
from ommatidia.data.tar_index import TarIndex, inspect_tar, tar_index

PICTURES = ("jpg", "jpeg", "png", "webp")
"""Endings of members that are images; with a number or a name before it, there may be several: ``0.jpg``."""

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")


def shard_paths(pattern: str) -> list[Path]:
    """The files of ``shard-{0000..0127}.tar``, of a glob, in the order of their names and numbers, or one file.

    Raises DataError: a file that a range names is not there, or nothing matches.
    """
    paths: list[Path] = []
    for name in _expanded(pattern):
        if any(character in name for character in "*?["):
            path = Path(name)
            root = Path(path.anchor) if path.is_absolute() else Path()
            paths += sorted(root.glob(str(path.relative_to(root))), key=lambda found: number_order(str(found)))
        elif Path(name).is_file():
            paths.append(Path(name))
        else:
            raise DataError(f"{name}: no such shard; expected every file of {pattern}", kind="missing shard")
    if not paths:
        raise DataError(f"{pattern}: no file matches; expected tar files", kind="missing shard")
    return paths


def _expanded(pattern: str) -> list[str]:
    if (found := _RANGE.search(pattern)) is not None:
        first, last = found.groups()
        numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    elif (found := _CHOICE.search(pattern)) is not None:
        numbers = found[1].split(",")
    else:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [name for number in numbers for name in _expanded(f"{head}{number}{tail}")]


@dataclass(frozen=True, slots=True)
class Members:
    """One sample of a shard, nothing of it read yet."""

    shard: Path
    key: str
    spans: dict[str, tuple[int, int]]

    @property
    def place(self) -> str:
        """In words: key and offset of the first member."""
        offset = next(iter(self.spans.values()))[0]
        return f"key {self.key} at offset {offset}"

    def fault(self, cause: str, kind: str) -> DataError:
        """Raised by who reads it."""
        return DataError(cause, source=str(self.shard), sample=self.place, kind=kind)

    def bytes(self, ending: str) -> bytes:
        """A member's content. Raises DataError when the shard has become shorter."""
        offset, size = self.spans[ending]
        return SpanPicture(self.shard, offset, size, f"{self.key}.{ending}").data()

    def text(self, ending: str) -> str:
        """Raises DataError: not UTF-8."""
        try:
            return self.bytes(ending).decode()
        except UnicodeDecodeError:
            raise self.fault(f"{ending!r} is not UTF-8", "layout") from None

    def record(self, ending: str) -> dict[str, Any]:
        """A member that is a JSON object. Raises DataError."""
        try:
            record = parse_json(self.bytes(ending))
        except ValueError as error:
            raise self.fault(f"{ending!r}: {error}", "not JSON") from None
        if not isinstance(record, dict):
            raise self.fault(f"{ending!r} is {type(record).__name__}; expected an object", "layout")
        return record

    def pictures(self) -> dict[str, SpanPicture]:
        """Members that are images by their endings, in the order of the shard."""
        return {
            ending: SpanPicture(self.shard, *span, f"{self.shard}: {self.key}.{ending}")
            for ending, span in self.spans.items()
            if ending.rpartition(".")[2] in PICTURES
        }


class Shards:
    """The samples of several tar files, one file behind another."""

    def __init__(self, indices: list[TarIndex]) -> None:
        self._indices = indices
        self._ends = list(accumulate(map(len, indices)))

    @classmethod
    def open(cls, pattern: str, *, root: Path | None = None) -> Shards:
        """Raises DataError: a shard that is missing, truncated, or has a key twice."""
        return cls([tar_index(path, root=root) for path in shard_paths(pattern)])

    @classmethod
    def inspect(cls, pattern: str, *, root: Path | None = None) -> tuple[Shards, tuple[DataError, ...]]:
        """What can be read, and what is wrong with the shards. Raises DataError when one is missing."""
        looked = [inspect_tar(path, root=root) for path in shard_paths(pattern)]
        return cls([index for index, _ in looked]), tuple(fault for _, faults in looked for fault in faults)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Members:
        which = bisect_right(self._ends, index)
        shard = self._indices[which]
        own = index - (self._ends[which - 1] if which else 0)
        return Members(shard.path, shard.key(own), shard.spans(own))


class ShardInspection:
    """The samples of all shards as they lie there; ``examine`` says a sample's own id and what it holds."""

    def __init__(
        self, pattern: str, examine: Callable[[Members], tuple[str | None, Examined]], *, root: Path | None = None
    ) -> None:
        self._shards, faults = Shards.inspect(pattern, root=root)
        self._examine = examine
        self.faults = tuple(DataError(str(fault), kind=fault.kind) for fault in faults)

    def __len__(self) -> int:
        return len(self._shards)

    def look(self, index: int) -> Looked:
        members = self._shards[index]
        name, found = self._examine(members)
        return Looked(f"{members.shard.name}, {members.place}", name, *found)


def shard_contents(pattern: str) -> Contents:
    """The files of a pattern, in order. Raises DataError as ``shard_paths`` does."""
    return Contents.joined([Contents.of_needed({path.name: path}) for path in shard_paths(pattern)])


def absent_shards(pattern: str) -> str | None:
    """The pattern where a shard of it is missing, else None."""
    try:
        shard_paths(pattern)
    except DataError:
        return pattern
    return None
