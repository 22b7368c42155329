"""A corpus of documents with images, one a line, and the places in them where an image stands beside text.

A line is ``{"id", "title", "url"?, "sections": [{"title", "text", "images": [{"path", "caption"}]}]}``, as an
encyclopedia's pages come out of most dumps.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ommatidia.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Section:
    """Text under one heading, and its images as (path, caption)."""

    title: str
    text: str
    images: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One page."""

    id: str
    title: str
    url: str
    sections: tuple[Section, ...]

    @property
    def text(self) -> str:
        """What is searched: the title, twice for its weight, headings, text and captions."""
        words = [self.title, self.title]
        for section in self.sections:
            words += [section.title, section.text, *(caption for _, caption in section.images)]
        return "\n".join(words)


class Documents:
    """The documents of one JSONL file by number; only where each begins is held. Raises DataError with the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("Q")
        try:
            with path.open("rb") as file:
                at = 0
                for line in file:
                    if line.strip():
                        self._starts.append(at)
                    at += len(line)
        except OSError as error:
            raise DataError(f"{path}: {(error.strerror or 'cannot be read').lower()}; expected documents") from None
        if not self._starts:
            raise DataError("no documents; expected one JSON object a line", source=str(path))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Document:
        with self.path.open("rb") as file:
            file.seek(self._starts[number])
            return self._read(file.readline(), number)

    def __iter__(self) -> Iterator[Document]:
        with self.path.open("rb") as file:
            for number, line in enumerate(line for line in file if line.strip()):
                yield self._read(line, number)

    def _read(self, line: bytes, number: int) -> Document:
        try:
            data = json.loads(line)
            sections = tuple(_section(section) for section in data["sections"])
            return Document(str(data["id"]), str(data["title"]), str(data.get("url") or ""), sections)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else "not such a JSON object"
            raise DataError(
                f"{what}; expected id, title and sections of title, text and images with path and caption",
                source=str(self.path),
                sample=f"document {number + 1}",
            ) from None


def _section(data: Any) -> Section:
    images = tuple((str(image["path"]), str(image.get("caption") or "")) for image in data.get("images") or ())
    return Section(str(data.get("title") or ""), str(data["text"]), images)
