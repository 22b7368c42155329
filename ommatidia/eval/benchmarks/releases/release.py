"""Release: which files a benchmark was first published in, and how they become rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ommatidia.core.errors import DataError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """Annotations are files below the benchmark's folder; pictures lie where ``rows`` says, relative to it."""

    files: Mapping[str, Sequence[str]]
    """By split the files that it needs; where a file has gone by several names they are separated by ``|``. A folder
    ends with a slash: all text files in it and below count."""
    rows: Callable[[Sequence[Path], Path, str], list[Row]]
    """Rows in the hub's columns, from the files in that order, the benchmark's folder and the split."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Rows of a split where they differ from those of the copy on the hub."""

    def find(self, root: Path, split: str) -> list[Path] | None:
        """The split's files; None where they are not all there."""
        found = []
        for names in self.files.get(split, ()):
            places = [root / name for name in names.split("|")]
            there = next((place for place in places if place.exists()), None)
            if there is None:
                return None
            found.append(there)
        return found or None

    def read(self, root: Path, split: str) -> ReleasedRows:
        """Raises DataError when the files are not in the form of the release."""
        files = self.find(root, split)
        assert files is not None
        try:
            return ReleasedRows(root, self.rows(files, root, split))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            named = ", ".join(str(file) for file in files)
            raise DataError(f"{named}: not in the form of the release ({type(error).__name__}: {error})") from None

    def describe(self, split: str) -> str:
        """The files in words; empty for a split that was not released."""
        return ", ".join(" or ".join(names.split("|")) for names in self.files.get(split, ()))


def listed(files: Sequence[Path]) -> list[Path]:
    """The files themselves, folders as the text files in them: what a fingerprint is taken of."""
    return [f for file in files for f in (sorted(file.rglob("*.txt")) if file.is_dir() else [file])]


class ReleasedRows:
    """Rows held in memory; pictures are paths relative to the benchmark's folder, or bytes."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.folder, self._rows = folder, rows

    @property
    def columns(self) -> Sequence[str]:
        return list(dict.fromkeys(key for row in self._rows for key in row))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._rows[index]

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self._rows]


def read_json(file: Path) -> Any:
    """Raises ValueError when it is no JSON, DataError when it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None


def read_lines(file: Path) -> list[Row]:
    """One JSON object a line. Raises ValueError when a line is none."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def inside(root: Path, file: Path) -> str:
    """The folder of ``file``, as a path relative to ``root``."""
    return file.parent.relative_to(root).as_posix()
