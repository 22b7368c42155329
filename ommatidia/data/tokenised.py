"""Samples in tokens, made beforehand: another source's samples, each with what a processor wrote of it.

A folder holds ``facts.json`` and parts of a fixed number of records, safetensors that are memory-mapped. Words and
images stay where they are; only tokenising and rendering are saved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ommatidia.core.checksums import CHECKSUMS, Checksums
from ommatidia.core.config import digest
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError, DiskError, RunError
from ommatidia.core.file_lock import only_writer
from ommatidia.core.folders import claim_folder
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import Sample, View, Written

PART = 20_000
"""Records of one file."""

_FACTS = "facts.json"
_WIDTHS = {"ids": 0, "flags": 0, "sees": 2, "places": 0, "views": 4, "boxes": 4, "tags": 0, "shown": 7}
"""Numbers in a row of each array; 0: plain numbers."""
_TYPES = {"flags": np.uint8, "boxes": np.float64}
_HEAD = {"<i4": "I32", "<i8": "I64", "|u1": "U8", "<f8": "F64"}


class Tokenised(SourceConfig):
    """Another source's samples with their tokens, made by ``omma data pack``; they go with one way of writing."""

    kind: Literal["tokenised"] = "tokenised"
    path: Path
    """A folder that ``omma data pack`` wrote for one source."""

    located: ClassVar[frozenset[str]] = frozenset({"path"})

    def facts(self) -> dict[str, Any]:
        """What the folder was made of. Raises DataError."""
        try:
            facts: dict[str, Any] = json.loads((self.path / _FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise DataError(
                f"no {_FACTS} that can be read; expected a folder of omma data pack", source=str(self.path)
            ) from None
        return facts

    def open(self) -> TokenisedSource:
        """Raises DataError: a part is missing or cut off, or the source changed since its tokens were made."""
        return TokenisedSource(self)

    def source(self) -> SourceConfig:
        """The source whose samples these are. Raises DataError."""
        return SourceConfig.parse(self.facts()["source"])

    def reads(self) -> Contents:
        """The parts, how they were written, and what the source reads."""
        facts, source = self.facts(), self.source()
        written = digest([source.hashed_without_places(), facts["fingerprint"], facts["speech"], facts["part"]])
        parts = {path.name: path for path in sorted(self.path.glob("part-*.safetensors"))}
        return Contents.joined([Contents.of([(_FACTS, None, written)]), Contents.of_files(parts), source.contents()])

    def absent(self) -> str | None:
        return str(self.path) if not (self.path / _FACTS).is_file() else self.source().absent()

    def describe(self) -> str:
        return f"{self.path.name} (tokenised)"


class TokenisedSource:
    """The samples of the source, in its order; one that could not be written down is as it was."""

    def __init__(self, config: Tokenised) -> None:
        facts = config.facts()
        made_of = SourceConfig.parse(facts["source"])
        if made_of.fingerprint() != facts["fingerprint"]:
            cause = f"{made_of.describe()} has changed since its tokens were made; make them again with omma data pack"
            raise DataError(cause, source=str(config.path))
        self._source, self._speech, self._part = made_of.open(), facts["speech"], facts["part"]
        numbers = range(-(-len(self._source) // self._part))
        self._parts = [_mapped(config.path / _name(number)) for number in numbers]

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        part, row = divmod(index, self._part)
        sample = self._source[index]
        written = _unpacked(self._parts[part], row, self._speech)
        return sample if written is None else replace(sample, written=written)


def write_tokenised(
    config: SourceConfig, write: Callable[[Sample], Written], speech: Mapping[str, str], out: Path, *, part: int = PART
) -> Iterator[int]:
    """Write a source's tokens into a folder, part by part; yields the records of each part, made now or before.

    What cannot be written down is left out, to be refused where it is read. Raises ConfigError for a folder that was
    begun with other facts, or that holds a part we did not write or that was changed; RunError where another process
    writes it, or the source changed meanwhile; DataError for a source that cannot be read; DiskError.
    """
    source = config.open()
    facts = {"source": config.to_dict(), "fingerprint": config.fingerprint(), "speech": dict(speech), "part": part}
    names = [_name(number) for number in range(-(-len(source) // part))]
    with only_writer(out):
        claim_folder(out, ours=(_FACTS, "part-*.safetensors", "*.part", CHECKSUMS))
        try:
            _begin(out / _FACTS, facts)
            checksums = Checksums(out)
            checksums.check("part-*.safetensors", names)
            for number, name in enumerate(names):
                rows = range(number * part, min((number + 1) * part, len(source)))
                if not checksums.holds(name):
                    _write_through(out / f"{name}.part", _packed([_written(source, row, write) for row in rows]))
                    checksums.publish(out / f"{name}.part", name)
                yield len(rows)
        except OSError as error:
            kept = "the parts that are whole stay, the same command goes on"
            raise DiskError(f"{out}: {error.strerror}; {kept}") from None
        if config.fingerprint() != facts["fingerprint"]:
            raise RunError(f"{out}: {config.describe()} changed while its tokens were written; name another folder")


def _begin(place: Path, facts: dict[str, Any]) -> None:
    if not place.is_file():
        _write_through(place.with_suffix(".part"), json.dumps(facts, indent=2).encode())
        os.replace(place.with_suffix(".part"), place)
        return
    try:
        before = json.loads(place.read_bytes())
        differing = [name for name in facts if before.get(name) != facts[name]]
    except (ValueError, AttributeError):
        raise ConfigError(f"{place}: damaged, so that its folder cannot be known as ours; name another") from None
    if differing:
        raise ConfigError(f"{place.parent} holds tokens of another {differing[0]}; write into another folder")


def _written(source: Source, row: int, write: Callable[[Sample], Written]) -> Written | None:
    try:
        return write(source[row])
    except DataError:  # refused again, by the source or the processor, and counted, where it is drawn
        return None


def _name(number: int) -> str:
    return f"part-{number:05d}.safetensors"


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _packed(rows: list[Written | None]) -> bytes:
    """One file in the layout of safetensors: every array of all rows joined, and where each row's share ends."""
    columns: dict[str, list[Any]] = {name: [] for name in _WIDTHS}
    ends: list[list[int]] = []
    for row in rows:
        if row is not None:
            columns["ids"] += row.ids
            columns["flags"] += [s + 2 * a for s, a in zip(row.supervised, row.asked, strict=True)]
            columns["sees"] += row.sees
            columns["places"] += row.places
            for view, tags in zip(row.views, row.tags, strict=True):
                columns["tags"] += tags
                columns["views"].append((view.picture, *view.size, 2 * len(tags) + view.overview))
                columns["boxes"].append(view.box)
            pictures = zip(row.shown, row.sizes, row.spans, strict=True)
            columns["shown"] += [(index, *size, *span) for index, size, span in pictures]
        ends.append([len(column) for column in columns.values()])
    arrays = {
        name: np.array(column, _TYPES.get(name, np.int32)).reshape((-1, _WIDTHS[name]) if _WIDTHS[name] else -1)
        for name, column in columns.items()
    }
    arrays["ends"] = np.array(ends, np.int64).reshape(-1, len(columns))
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)  # so that each is aligned
    head: dict[str, Any] = {}
    at = 0
    for name, array in ordered:
        span = [at, at := at + array.nbytes]
        head[name] = {"dtype": _HEAD[array.dtype.str], "shape": list(array.shape), "data_offsets": span}
    line = json.dumps(head).encode()
    line += b" " * (-len(line) % 8)
    return b"".join([len(line).to_bytes(8, "little"), line, *(array.tobytes() for _, array in ordered)])


@lru_cache(maxsize=2**12)
def _mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a part, memory-mapped. Raises DataError: missing or cut off."""
    types = {name: np.dtype(code) for code, name in _HEAD.items()}
    try:
        with path.open("rb") as file:
            first = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(first))
        # One mapping a part: a process may have only so many of them.
        whole, arrays = np.memmap(path, np.uint8, "r"), {}
        for name, one in head.items():
            start, end = (8 + first + at for at in one["data_offsets"])
            if end > len(whole):
                raise ValueError(name)
            arrays[name] = whole[start:end].view(types[one["dtype"]]).reshape(one["shape"])
    except (OSError, ValueError, KeyError):
        cause = "missing or cut off; remove it, and omma data pack makes it again"
        raise DataError(cause, source=str(path), kind="truncated shard") from None
    return arrays


def _unpacked(arrays: dict[str, NDArray[Any]], row: int, speech: Mapping[str, str]) -> Written | None:
    ends = arrays["ends"]
    first = dict(zip(_WIDTHS, ends[row - 1].tolist() if row else [0] * len(_WIDTHS), strict=True))
    last = dict(zip(_WIDTHS, ends[row].tolist(), strict=True))
    if first["ids"] == last["ids"]:
        return None
    part = {name: arrays[name][first[name] : last[name]].tolist() for name in _WIDTHS}
    views, tags, at = [], [], 0
    for (picture, height, width, more), box in zip(part["views"], part["boxes"], strict=True):
        views.append(View(picture, (height, width), tuple(box), bool(more % 2)))
        tags.append(part["tags"][at : at + more // 2])
        at += more // 2
    return Written(
        speech,
        part["ids"],
        [bool(flag & 1) for flag in part["flags"]],
        [bool(flag & 2) for flag in part["flags"]],
        [tuple(sees) for sees in part["sees"]],
        part["places"],
        tuple(views),
        tags,
        tuple(one[0] for one in part["shown"]),
        tuple((one[1], one[2]) for one in part["shown"]),
        tuple((one[3], one[4], one[5], one[6]) for one in part["shown"]),
    )
