"""Release: which files a benchmark was first published in, and how they become rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ommatidia.core.errors import DataError
from ommatidia.eval.benchmarks.rows import HeldRows, Rows

Row = dict[str, Any]

_NAMED = 16
"""Files that are all named where a release is described."""


@dataclass(frozen=True, slots=True)
class Release:
    """Annotations are files below the benchmark's folder; images lie where ``rows`` says, relative to it."""

    files: Mapping[str, Sequence[str]]
    """By split the files that it needs; where a file has gone by several names they are separated by ``|``. A folder
    ends with a slash: all text and JSON files in it and below count."""
    rows: Callable[[Sequence[Path], Path, str], list[Row] | Rows]
    """From the files in that order, the benchmark's folder and the split: rows in the hub's columns, or a table that
    has them already."""
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

    def read(self, root: Path, split: str) -> Rows:
        """Raises DataError when the files are not in the form of the release."""
        files = self.find(root, split)
        assert files is not None
        try:
            found = self.rows(files, root, split)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            named = ", ".join(str(file) for file in files)
            raise DataError(f"{named}: not in the form of the release ({type(error).__name__}: {error})") from None
        return HeldRows(root, found) if isinstance(found, list) else found

    def describe(self, split: str) -> str:
        """The files in words; empty for a split that was not released."""
        named = [" or ".join(names.split("|")) for names in self.files.get(split, ())]
        return ", ".join(named if len(named) <= _NAMED else [*named[:2], f"and so on, {len(named)} files"])


def listed(files: Sequence[Path]) -> list[Path]:
    """The files themselves, folders as the text and JSON files in them: what a fingerprint is taken of."""
    return [f for file in files for f in (_written(file) if file.is_dir() else [file])]


def _written(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".json"))


def read_json(file: Path) -> Any:
    """Raises ValueError when it is no JSON, DataError when it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None


def inside(root: Path, file: Path) -> str:
    """The folder of ``file``, as a path relative to ``root``."""
    return file.parent.relative_to(root).as_posix()
