"""Which files under a path are one table: of a hub snapshot one configuration and one part of it, never several mixed.

Configurations are those that the snapshot's README lists (``configs:`` with ``data_files:``); files that it does not
list belong to one by their folders: ``en/train-00000-of-00002.parquet`` to ``en``, ``data/...`` to ``default``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ommatidia.core.errors import ConfigError, DataError, unknown
from ommatidia.core.names import number_order
from ommatidia.core.plain_data import read_plain

_DEFAULT = "default"
_EVERY = "*"
_NUMBERED = re.compile(r"(\w+(?:\.\w+)*)-[0-9]+-of-[0-9]+(?:-[0-9a-f]+)?")
_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_NO_CONFIGURATION = ("data", "parquet", _DEFAULT)
"""Folders that say nothing of their files."""
_PARTS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""Words in a name that say which part a file belongs to."""


@dataclass(frozen=True, slots=True)
class _Placed:
    file: Path
    config: str
    part: str | None


def files(path: Path) -> list[Path]:
    """The data files under a path, numbers in their names in order. Raises DataError when there are none."""
    if path.is_file():
        return [path]
    found = [file for file in path.rglob("*") if file.suffix in (".arrow", ".parquet", ".json")]
    if not found:
        what = "no parquet and no Arrow files" if path.is_dir() else "no such file or folder"
        raise DataError(f"{path}: {what}; expected a folder of datasets' save_to_disk, or parquet files")
    return sorted(found, key=lambda file: number_order(file.as_posix()))


def chosen(path: Path, *, part: str | None = None, config: str | None = None) -> list[Path]:
    """The files that hold this part of this configuration; files that are not parquet have their parts inside.

    Raises:
        ConfigError: there are several configurations or parts and none is named, or no such one.
        DataError: there are no data files.
    """
    found = files(path)
    parquet = [file for file in found if file.suffix == ".parquet"]
    if not parquet:
        return found
    root = path if path.is_dir() else path.parent
    placed = _placed(root, parquet)
    kept = [one.file for one in _of_part(path, _of_config(path, placed, config), part)]
    return list(dict.fromkeys(kept))


def part_of(name: str) -> str | None:
    """The part that a file belongs to by its name, as the hub names them; None: it names none."""
    *folders, stem = name.removesuffix(".parquet").split("/")
    if (numbered := _NUMBERED.fullmatch(stem)) is not None:
        return numbered[1]
    return next((part for piece in (stem, *reversed(folders)) if (part := _part_in(piece)) is not None), None)


def _part_in(name: str) -> str | None:
    words = (word.lower() for word in re.split(r"[^a-zA-Z]+", name))
    return next((_PARTS[word] for word in words if word in _PARTS), None)


def _config_of(name: str) -> str:
    *folders, _ = name.split("/")
    telling = [folder for folder in folders if folder not in _NO_CONFIGURATION and _part_in(folder) is None]
    return "/".join(telling) or _DEFAULT


def _placed(root: Path, parquet: list[Path]) -> list[_Placed]:
    """Every file with its configuration and part; a file of several configurations once for each."""
    listed = [one for one in _listed(root) if one.file in set(parquet)]
    known = {one.file for one in listed}
    names = {file: file.relative_to(root).as_posix() for file in parquet if file not in known}
    placed = [*listed, *(_Placed(file, _config_of(name), part_of(name)) for file, name in names.items())]
    return sorted(placed, key=lambda one: number_order(one.file.as_posix()))


def _of_config(path: Path, placed: list[_Placed], config: str | None) -> list[_Placed]:
    names = list(dict.fromkeys(one.config for one in placed))
    if config == _EVERY or (config is None and len(names) == 1):
        return placed
    if config is None:
        listed = ", ".join(sorted(names))
        every = f"; config: {_EVERY!r} reads all as one"
        raise ConfigError(
            f"{path} holds several configurations: {listed}; set config, or name one file or folder{every}"
        )
    if config not in names:
        raise ConfigError(f"{path}: {unknown('configuration', config, names)}")
    return [one for one in placed if one.config == config]


def _of_part(path: Path, placed: list[_Placed], part: str | None) -> list[_Placed]:
    parts = {one.part for one in placed}
    if part is None and len(parts) > 1:
        names = ", ".join(sorted(name or "files without a part in their name" for name in parts))
        raise ConfigError(f"{path} holds several parts: {names}; set part, or name one file or folder")
    if part is not None and part not in parts:
        if parts == {None}:
            raise ConfigError(f"{path} holds one data set without parts; leave out part: {part!r}")
        raise ConfigError(f"{path}: {unknown('part', part, [name for name in parts if name])}")
    return [one for one in placed if part is None or one.part == part]


def _listed(root: Path) -> Iterator[_Placed]:
    """What the README of a snapshot says; nothing where it cannot be read, for then the folders' names say it."""
    try:
        found = _FRONT_MATTER.match((root / "README.md").read_text(encoding="utf-8"))
        card = read_plain(found[1]) if found is not None else None
    except (OSError, ValueError):
        return
    for config in _list(card.get("configs")) if isinstance(card, Mapping) else ():
        if not isinstance(config, Mapping):
            continue
        name = str(config.get("config_name", _DEFAULT))
        for entry in _list(config.get("data_files")):
            split = str(entry["split"]) if isinstance(entry, Mapping) and "split" in entry else None
            for pattern in _list(entry.get("path") if isinstance(entry, Mapping) else entry):
                for file in _matching(root / str(config.get("data_dir") or ""), pattern):
                    yield _Placed(file, name, split or part_of(file.relative_to(root).as_posix()))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _matching(folder: Path, pattern: Any) -> list[Path]:
    try:
        return [file for file in folder.glob(str(pattern)) if file.is_file()]
    except (ValueError, NotImplementedError, OSError):  # an absolute or empty pattern
        return []
