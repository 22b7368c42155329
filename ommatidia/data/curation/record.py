"""Record: one dialogue or document on its way through curation, in LLaVA's layout, with where it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from ommatidia.core.errors import DataError
from ommatidia.core.types import Message, Picture
from ommatidia.data.conversation import images_of, read_dialogue
from ommatidia.data.curation.corpus import Origin
from ommatidia.data.curation.image_store import ImageStore
from ommatidia.data.documents import Layout, read_document
from ommatidia.data.json_records import own_id

Edit = Callable[[str, str], str]
"""(question, its answer) to the question to ask instead."""

_TAGS = ("source", "category")


@dataclass(frozen=True, slots=True)
class Record:
    """What a record says, and what curation must know of it."""

    data: dict[str, Any]
    """See ``llava_layout``."""
    origin: Origin
    corpus: str
    """The name of the corpus that it is from."""
    source: str
    category: str
    row: int
    """Which record of its corpus, from 1."""
    changed: tuple[str, ...] = ()
    """What operations did to it, in order."""

    @property
    def id(self) -> str:
        return own_id(self.data) or str(self.row)

    @property
    def file(self) -> str:
        """What errors call its corpus."""
        return self.origin.file

    @property
    def document(self) -> bool:
        """Whether it is a text with images in it, and no dialogue."""
        return "conversations" not in self.data

    def dialogue(self) -> tuple[tuple[Message, ...], tuple[Picture, ...]]:
        """Messages and images, none of them opened. Raises DataError for a wrong layout."""
        try:
            if not self.document:
                return read_dialogue(self.data, self.origin.picture)
            messages, pictures, faults = read_document(self.data, self.origin.picture, Layout())
            if faults:
                raise faults[0]
            return messages, pictures
        except DataError as error:
            raise error.at(source=self.file, sample=f"{self.id} (record {self.row})") from None

    def text(self) -> str:
        """The words of all turns, a line each."""
        return "\n".join(message.text for message in self.dialogue()[0])

    def pictures(self) -> tuple[Picture, ...]:
        """Raises DataError for a wrong layout."""
        return self.dialogue()[1]

    def answers(self) -> list[str]:
        """What the assistant says, turn by turn."""
        return [message.text.strip() for message in self.dialogue()[0] if message.role == "assistant"]

    def asking(self, edit: Edit, *, why: str) -> Record:
        """The record with every answered question edited; itself where nothing changes."""
        turns = [dict(turn) for turn in self.data.get("conversations", ())]
        changed = False
        for asked, answered in pairwise(turns):
            if asked["from"] == "human" and answered["from"] == "gpt":
                edited = edit(asked["value"], answered["value"].strip())
                changed, asked["value"] = changed or edited != asked["value"], edited
        if not changed:
            return self
        return replace(self, data={**self.data, "conversations": turns}, changed=(*self.changed, why))

    def written(self, folder: Path, images: ImageStore, *, apart: bool) -> dict[str, Any]:
        """The record as it is handed on: image paths relative to ``folder``, and where it came from.

        ``apart``: its id begins with its corpus, since records of another one may have the same.
        """
        given = self.data.get("provenance")
        given = given if isinstance(given, dict) else {}  # of an earlier curation, or of what wrote the record
        before: list[str] = given.get("changed", [])
        own = {"source": self.source, "category": self.category}
        said = {f"given_{tag}": self.data[tag] for tag in _TAGS if self.data.get(tag) not in (None, own[tag])}
        provenance = {"file": self.file, "record": self.row, **said, **given, "changed": [*before, *self.changed]}
        data = dict(self.data)
        if self.document:
            data["images"] = [None if image is None else self._path(image, folder, images) for image in data["images"]]
        elif paths := [self._path(image, folder, images) for image in images_of(data)]:
            data["image"] = paths[0] if len(paths) == 1 else paths
        name = f"{self.corpus}/{self.id}" if apart else self.id
        data.pop("id", None)
        return {"id": name, **data, **own, "provenance": provenance}

    def _path(self, image: Any, folder: Path, images: ImageStore) -> str:
        path = self.origin.path(image)
        if path is not None:
            images.see(path)
            return os.path.relpath(Path(_real(str(path.parent)), path.name), _real(str(folder)))
        if isinstance(image, str):
            return image
        try:
            return images.put(self.origin.picture(image))
        except DataError as error:
            raise error.at(source=self.file, sample=self.id) from None

    def to_line(self) -> bytes:
        fields = [self.data, self.corpus, self.source, self.category, self.row, self.changed]
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


@lru_cache(maxsize=2**12)
def _real(folder: str) -> str:
    """A folder without links: '..' behind a link leads elsewhere."""
    return os.path.realpath(folder)


def read_lines(path: Path, origins: Mapping[str, Origin]) -> Iterator[Record]:
    """Records that ``to_line`` wrote; ``origins`` are the corpora by name."""
    with path.open("rb") as file:
        for line in file:
            data, corpus, source, category, row, changed = json.loads(line)
            yield Record(data, origins[corpus], corpus, source, category, row, tuple(changed))
