"""Contents: what something reads, file by file, each known by its bytes. Keys are made of it; the store keeps it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ommatidia.core.errors import DataError
from ommatidia.core.files import digest_files

Entry = tuple[str, int | None, str | None]
"""Name, bytes and SHA-256; None for what is not there."""


@dataclass(frozen=True, slots=True)
class Contents:
    """One line of JSON for each thing that is read: its name as the data write it, its size and its SHA-256.

    Where the files lie is no part of it: moved as a whole, the contents are equal.
    """

    lines: bytes = b""
    digest: str = hashlib.sha256().hexdigest()
    """SHA-256 of the lines."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Contents:
        """Of things whose digests are known."""
        lines = "".join(f"[{json.dumps(name)},{_text(size)},{_text(made)}]\n" for name, size, made in entries)
        return cls.read(lines.encode())

    @classmethod
    def of_files(cls, files: Mapping[str, str | Path]) -> Contents:
        """Of files by name, in this order; one that is not there counts as missing."""
        found = digest_files([os.fspath(path) for path in files.values()])
        return cls.of(
            (name, *one) if one is not None else (name, None, None) for name, one in zip(files, found, strict=True)
        )

    @classmethod
    def of_needed(cls, files: Mapping[str, str | Path]) -> Contents:
        """Of files that must be there. Raises DataError."""
        contents = cls.of_files(files)
        for name, _, made in contents:
            if made is None:
                raise DataError(f"{files[name]}: no such file; expected a file that can be read")
        return contents

    @classmethod
    def read(cls, lines: bytes) -> Contents:
        """Contents that were written down."""
        return cls(lines, hashlib.sha256(lines).hexdigest())

    @classmethod
    def joined(cls, parts: Iterable[Contents]) -> Contents:
        """Several contents as one, one behind another."""
        return cls.read(b"".join(part.lines for part in parts))

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __iter__(self) -> Iterator[Entry]:
        for line in self.lines.splitlines():
            name, size, made = json.loads(line)
            yield name, size, made

    def changed(self, now: Contents) -> list[str]:
        """Names of what is there no longer, is new, or has other bytes, in the order of the names before."""
        before, after = _by_name(self), _by_name(now)
        return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _by_name(contents: Contents) -> dict[str, list[tuple[int | None, str | None]]]:
    found: dict[str, list[tuple[int | None, str | None]]] = {}
    for name, size, made in contents:
        found.setdefault(name, []).append((size, made))
    return found


def _text(value: int | str | None) -> str:
    return "null" if value is None else str(value) if isinstance(value, int) else f'"{value}"'
