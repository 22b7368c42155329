"""Survey: which records of a file a source yields, as one digest, and which image files they name.

It follows from the records alone and is remembered by their content: a file is gone through once, on this machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ommatidia.core.config import digest
from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError
from ommatidia.core.files import derived, file_digest
from ommatidia.core.image_file import path_of
from ommatidia.core.picture import FilePicture
from ommatidia.core.types import Picture
from ommatidia.data import json_records
from ommatidia.data.conversation import named_images

_VERSION = 3
"""Raised by hand when a survey finds something else in the same records."""

Rows = tuple[Sequence[int], json_records.Spans]
"""Rows of a file that are yielded, in order, and where every record of the file starts and ends."""

Names = Callable[[dict[str, Any]], Iterable[str]]
"""The image files that a record names, as written there. Raises DataError."""


def surveyed(path: Path, rules: Any, rows: Callable[[], Rows], names: Names, root: Path, *, part: str = "") -> Contents:
    """Contents of the records that ``rows`` chooses of a JSON file and of the images they name below ``root``.

    ``rules`` is plain data: all that ``rows`` and ``names`` depend on beside the file. ``part`` says in words which
    records are chosen; empty: all, and the file counts as it is. Raises DataError.
    """
    content = file_digest(path)
    found = derived(digest([_VERSION, content, rules]), lambda: _survey(path, rows(), names))
    entry = (f"{path.name} ({part})", found["bytes"], found["records"]) if part else _whole(path, content)
    return Contents.joined([Contents.of([entry]), named_files(found["images"], root)])


def all_images(path: Path, rules: Any, rows: Callable[[], Rows], names: Names) -> list[str]:
    """The image files that the records of a whole file name, each once; ``rules`` as for ``surveyed``."""
    found = derived(digest([_VERSION, file_digest(path), rules]), lambda: _survey(path, rows(), names))
    return list(found["images"])


def named_files(names: Iterable[str], root: Path) -> Contents:
    """Contents of files by the names that records give them, relative to ``root``."""
    return Contents.of_files({name: file_path(name, root) for name in names})


def file_path(name: str, root: Path) -> str:
    """Where an image file is that a record names; it may not be there."""
    return os.path.join(root, path_of(name))


def is_file_name(image: Any) -> bool:
    """Whether what a record says of an image names a file: neither the image itself nor an address of the web."""
    return isinstance(image, str) and not image.startswith(("data:", "http://", "https://"))


def file_names(record: Mapping[str, Any]) -> list[str]:
    """The image files that a conversation names. Raises DataError."""
    return [image for image in named_images(record) if is_file_name(image)]


def recorded(read: Callable[[Callable[[Any], Picture]], Any], name: Callable[[Any], Any]) -> list[str]:
    """What ``read`` asks its resolver for, where ``name`` says that it is a file; nothing is opened."""
    names: list[str] = []

    def resolve(value: Any) -> Picture:
        written = name(value)
        if is_file_name(written):
            names.append(written)
        return FilePicture(Path(str(written)))

    read(resolve)
    return names


def _whole(path: Path, content: str) -> tuple[str, int, str]:
    return path.name, path.stat().st_size, content


def _survey(path: Path, rows: Rows, names: Names) -> Mapping[str, Any]:
    chosen, (starts, ends) = rows
    images: dict[str, None] = {}
    total, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for row in chosen:
            file.seek(starts[row])
            data = file.read(ends[row] - starts[row])
            size += len(data)
            numbered = True
            try:
                record = json_records.parse(data, path, row)
                numbered = json_records.own_id(record) is None
                images.update(dict.fromkeys(names(record)))
            except DataError:  # refused and counted where it is read
                pass
            # A record without an id is known by its place in the file.
            total.update(f"{row if numbered else ''}:{len(data)}:".encode() + data)
    return {"records": total.hexdigest(), "bytes": size, "images": list(images)}
