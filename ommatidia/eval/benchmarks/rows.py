"""Rows of a published benchmark from a local copy: parquet, what ``save_to_disk`` wrote, or JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.files import file_digest
from ommatidia.core.image_file import image_file
from ommatidia.core.json_text import parse_json
from ommatidia.core.names import number_order
from ommatidia.core.picture import BytesPicture, FilePicture
from ommatidia.core.types import Picture
from ommatidia.eval.benchmarks.labelled import LabelledPicture

if TYPE_CHECKING:
    from datasets import Dataset

_SAVED, _SAVED_PARTS = "state.json", "dataset_dict.json"


class Rows(Protocol):
    """A finite table, read row by row."""

    folder: Path
    """What relative paths of images start from."""

    @property
    def columns(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    def column(self, name: str) -> list[Any]:
        """One column alone, without reading images."""
        ...


def find_files(root: Path, *, config: str | None, split: str) -> list[Path]:
    """The files of one split below ``root``, in order.

    Looked for in root/config, root/config/data, root and root/data: a folder that ``save_to_disk`` wrote (of this split
    or holding it), then split-*.parquet or split.parquet, then split.jsonl. Raises DataError when there are none.
    """
    named = root / config if config is not None else root
    for base in dict.fromkeys((named, named / "data", root, root / "data")):
        if config is not None and base in (root, root / "data") and any(named.glob("*")):
            continue
        saved = base / split if (base / _SAVED_PARTS).is_file() or (base / split / _SAVED).is_file() else base
        if (saved / _SAVED).is_file():
            return _in_order(path for path in saved.iterdir() if path.suffix in (".arrow", ".json"))
        wanted = re.compile(rf"{re.escape(split)}(-.*)?\.parquet")
        found = _in_order(path for path in base.glob("*.parquet") if wanted.fullmatch(path.name))
        if found:
            return found
        if (base / f"{split}.jsonl").is_file():
            return [base / f"{split}.jsonl"]
    held = sorted(path.name for path in named.iterdir())[:8] if named.is_dir() else []
    seen = f"holds {', '.join(held)}" if held else "is empty" if named.is_dir() else "is no folder"
    raise DataError(
        f"{named} {seen}; expected the split {split!r} as {split}-*.parquet (here or in data/), as a folder of "
        f"save_to_disk, or as {split}.jsonl"
    )


def _in_order(files: Iterable[Path]) -> list[Path]:
    return sorted(files, key=lambda file: number_order(file.name))


def open_rows(files: Sequence[Path]) -> Rows:
    """The table in ``files``. Raises DataError when it cannot be read, ConfigError when ``datasets`` is missing."""
    if files[0].suffix == ".jsonl":
        return HeldRows(files[0].parent, read_lines(files[0]))
    return TableRows(tuple(files))


class TableRows:
    """Rows of memory-mapped Arrow; images stay the bytes that were stored."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self.folder = files[0].parent
        self._table = _opened(tuple(map(str, files)), tuple(map(file_digest, files)))

    @property
    def columns(self) -> Sequence[str]:
        return list(self._table.column_names)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        row: dict[str, Any] = self._table[index : index + 1].to_pylist()[0]
        return row

    def column(self, name: str) -> list[Any]:
        return list(self._table.select_columns([name])[:][name].to_pylist())


@lru_cache(maxsize=16)
def _opened(files: tuple[str, ...], digests: tuple[str, ...]) -> Dataset:
    try:
        import datasets
    except ImportError:
        raise ConfigError(
            "reading a benchmark's tables needs the package datasets: pip install 'ommatidia[hub]'"
        ) from None
    try:
        datasets.disable_progress_bars()  # our own bar counts the questions
        parquet = [file for file in files if file.endswith(".parquet")]
        folder = str(Path(files[0]).parent)
        table = datasets.Dataset.from_parquet(parquet) if parquet else datasets.load_from_disk(folder)
    except (OSError, ValueError, IndexError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        raise DataError(f"{files[0]}: cannot be read ({' '.join(str(cause).split())[:300]})") from None
    return table.with_format("arrow")


class HeldRows:
    """Rows held in memory; images are paths relative to ``folder``, stored bytes, or images that are drawn."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]]) -> None:
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


def read_lines(file: Path) -> list[dict[str, Any]]:
    """One JSON object a line, empty lines left out. Raises DataError, with its number, where a line is none."""
    rows = []
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    # Not splitlines: U+2028 and the like may stand inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line.encode())
        except ValueError as error:
            raise DataError(f"{file}, line {number}: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{file}, line {number}: {type(row).__name__}; expected an object with the columns")
        rows.append(row)
    return rows


def require(rows: Rows, columns: Sequence[str], place: str) -> None:
    """Raises DataError when a column is missing: the copy has another layout than the published one."""
    for column in columns:
        if column not in rows.columns:
            raise DataError(f"no column {column!r}; there are {', '.join(rows.columns)}", source=place)


def path_of(value: Any) -> str | None:
    """The file that a table names as an image; None where its bytes are stored, or nothing is named."""
    if isinstance(value, Mapping):
        value = None if isinstance(value.get("bytes"), bytes) else value.get("path")
    return value if isinstance(value, str) else None


def picture_of(value: Any, folder: Path, name: str) -> Picture:
    """An image from what a table holds: {bytes, path}, bytes, or a path below ``folder``; {path, labels} is that file
    with letters over some of its words. Raises DataError."""
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return BytesPicture(value["bytes"], name=f"image of {name}")
    if isinstance(value, bytes):
        return BytesPicture(value, name=f"image of {name}")
    path = value.get("path") if isinstance(value, Mapping) else value
    if not isinstance(path, str):
        raise DataError(f"the image is {type(value).__name__}; expected stored bytes or a path", sample=name)
    try:
        found = FilePicture(image_file(folder, path))
    except DataError as error:
        raise error.at(sample=name) from None
    labels = value.get("labels") if isinstance(value, Mapping) else None
    return LabelledPicture(found, tuple(labels)) if labels else found
