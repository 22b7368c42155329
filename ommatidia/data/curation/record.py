"""Record: one conversation of a file on its way through curation, as it was written, with where it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ommatidia.core.errors import DataError
from ommatidia.core.picture import FilePicture
from ommatidia.core.types import Message, Picture
from ommatidia.data.conversation import from_data_uri, images_of, read_dialogue

Edit = Callable[[str, str], str]
"""(question, its answer) to the question to ask instead."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a line of the file says, and what curation must know of it."""

    data: dict[str, Any]
    source: str
    category: str
    file: str
    row: int
    """Which record of its file, from 1."""
    root: str
    """Folder that its image paths are relative to."""
    changed: tuple[str, ...] = ()
    """What operations did to it, in order."""

    @property
    def id(self) -> str:
        return str(self.data.get("id", self.row))

    def dialogue(self) -> tuple[tuple[Message, ...], tuple[Picture, ...]]:
        """Messages and pictures, none of them opened. Raises DataError for a wrong layout."""
        try:
            return read_dialogue(self.data, self._picture)
        except DataError as error:
            raise error.at(source=self.file, sample=f"{self.id} (record {self.row})") from None

    def text(self, *, of: str = "dialogue") -> str:
        """The words of all turns, or of the ``questions`` or ``answers`` alone, a line each."""
        roles = {"questions": ("user",), "answers": ("assistant",)}.get(of, ("system", "user", "assistant"))
        return "\n".join(message.text for message in self.dialogue()[0] if message.role in roles)

    def pictures(self) -> tuple[Picture, ...]:
        """Raises DataError for a wrong layout."""
        return self.dialogue()[1]

    def answers(self) -> list[str]:
        """What the assistant says, turn by turn."""
        return [message.text.strip() for message in self.dialogue()[0] if message.role == "assistant"]

    def asking(self, edit: Edit, *, why: str) -> Record:
        """The record with every answered question edited; itself where nothing changes."""
        key = "conversations" if self.data.get("conversations") is not None else "messages"
        turns = [dict(turn) for turn in self.data[key]]
        changed = False
        for asked, answered in pairwise(turns):
            ends = [
                (turn.get("from", turn.get("role")), "value" if "value" in turn else "content")
                for turn in (asked, answered)
            ]
            (speaker, words), (listener, reply) = ends
            if speaker not in ("human", "user") or listener not in ("gpt", "assistant"):
                continue
            if isinstance(asked[words], str) and isinstance(answered[reply], str):
                edited = edit(asked[words], answered[reply].strip())
                changed, asked[words] = changed or edited != asked[words], edited
        return replace(self, data={**self.data, key: turns}, changed=(*self.changed, why)) if changed else self

    def _picture(self, image: Any) -> Picture:
        if not isinstance(image, str):
            raise DataError(f"an image is {type(image).__name__}; expected a path or a data URI")
        return from_data_uri(image) if image.startswith("data:") else FilePicture(Path(self.root, image))

    def written(self, folder: Path) -> dict[str, Any]:
        """The record as it is handed on: image paths relative to ``folder``, and where it came from."""
        given = self.data.get("provenance")
        given = given if isinstance(given, dict) else {}  # of an earlier curation, or of what wrote the record
        before: list[str] = given.get("changed", [])
        provenance = {"file": self.file, "record": self.row, **given, "changed": [*before, *self.changed]}
        data = {k: v for k, v in self.data.items() if k not in ("image", "images")}
        if images := [self._moved(image, folder) for image in images_of(self.data)]:
            data["image"] = images[0] if len(images) == 1 else images
        tags = {"source": self.source, "category": self.category, "provenance": provenance}
        return {"id": self.id, **data, **tags}

    def _moved(self, image: Any, folder: Path) -> Any:
        if not isinstance(image, str) or image.startswith("data:") or "://" in image:
            return image
        return os.path.relpath(Path(self.root, image).absolute(), folder.absolute())

    def to_line(self) -> bytes:
        fields = [self.data, self.source, self.category, self.file, self.row, self.root, self.changed]
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def read_lines(path: Path) -> Iterator[Record]:
    """Records that ``to_line`` wrote."""
    with path.open("rb") as file:
        for line in file:
            data, source, category, name, row, root, changed = json.loads(line)
            yield Record(data, source, category, name, row, root, tuple(changed))
