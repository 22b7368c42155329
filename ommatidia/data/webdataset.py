"""WebDataset shards with random access: no unpacking, no order of their own, so that a seed decides it as ever."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError
from ommatidia.core.names import number_order
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import ImagePart, Message, Picture, Sample
from ommatidia.data.conversation import PASSED_ON, inspect_dialogue, unread_fields
from ommatidia.data.documents import DOCUMENT_FIELDS, Layout, read_document
from ommatidia.data.json_records import Examined, own_id
from ommatidia.data.shards import Members, ShardInspection, Shards, absent_shards, shard_contents

_DIGITS = re.compile("[0-9]+")


class WebDataset(SourceConfig):
    """Samples in tar shards: images beside a caption (txt) or a record (json): a dialogue, a document, a caption."""

    kind: Literal["webdataset"] = "webdataset"
    shards: str
    """A tar file, a glob, or names with ranges: ``data/shard-{0000..0127}.tar``."""
    record: str = "json"
    """Ending of the member that holds the record."""
    text: str = "txt"
    """Ending of the member that holds the caption."""
    caption: str = "caption"
    """Field of a record that is no dialogue and no document, where there is no member of text."""
    documents: Layout = Layout()
    """How interleaved documents are laid out."""
    index_root: Path | None = None
    """Folder to keep the shards' indices in; None: beside the shards."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many samples."""

    unhashed = frozenset({"index_root"})
    located = frozenset({"shards"})

    def open(self) -> WebDatasetSource:
        """Raises DataError: a shard that is missing, truncated, or has a key twice, with its name and the offset."""
        return WebDatasetSource(self, Shards.open(self.shards, root=self.index_root))

    def inspect(self) -> ShardInspection:
        """The samples of all shards, as far as they go. Raises DataError when a shard is missing."""

        def examine(members: Members) -> tuple[str | None, Examined]:
            _, record, found = read_members(members, self)
            return own_id(record), found

        return ShardInspection(self.shards, examine, root=self.index_root)

    def reads(self) -> Contents:
        """The shards, each of which is read in full once."""
        return shard_contents(self.shards)

    def absent(self) -> str | None:
        return absent_shards(self.shards)

    def describe(self) -> str:
        return Path(self.shards).name


def read_members(members: Members, config: WebDataset) -> tuple[str, dict[str, Any], Examined]:
    """Id, what else the record says, and what the sample holds, with everything that is wrong with it."""
    pictures = members.pictures()
    name, record = members.key, {}
    try:
        if config.record in members.spans:
            record = members.record(config.record)
            name = own_id(record) or name
        if "conversations" in record or "messages" in record:
            return name, record, _dialogue(record, members, pictures)
        if "text_list" in record or "texts" in record:
            found = read_document(record, lambda value: _named(value, members, pictures), config.documents)
            return name, record, found
        caption = members.text(config.text) if config.text in members.spans else record.get(config.caption)
        return name, record, _pair(caption, members, pictures)
    except DataError as error:
        return name, record, ((), tuple(pictures.values()), [error])


def _dialogue(record: dict[str, Any], members: Members, pictures: dict[str, Any]) -> Examined:
    """A record that names no image has the images beside it, in their order."""
    turns = record.get("messages") or record.get("conversations") or []
    contents = [turn.get("content", turn.get("value")) for turn in turns if isinstance(turn, dict)]
    named = any(isinstance(c, list) and any(isinstance(p, dict) and p.get("image") for p in c) for c in contents)
    if not named:
        record = {key: value for key, value in record.items() if key not in ("image", "images")}
        record["images"] = _by_number(list(pictures))
    return inspect_dialogue(record, lambda value: _named(value, members, pictures))


def _by_number(names: list[str]) -> list[str]:
    """Names in their order; those that differ in numbers alone by the numbers: img2 comes before img10."""
    alike = len({_DIGITS.sub("0", name) for name in names}) == 1
    return sorted(names, key=number_order) if alike else names


def _named(value: Any, members: Members, pictures: dict[str, Any]) -> Picture:
    """An image beside the record by its ending, or by its whole name."""
    value = value.get("image_name") if isinstance(value, dict) else value
    name = str(value)
    whole = [name.removeprefix(f"{key}.") for key in (members.key, members.key.rpartition("/")[2])]
    # "0.jpg" may be an image of any key, or the only one of the key 0: what stands there as it is comes first.
    ending = next((one for one in map(str.lower, (name, *whole)) if one in pictures), None)
    if ending is None:
        cause = f"no member {name!r} beside the record; there are {', '.join(members.spans)}"
        raise members.fault(cause, "missing image")
    picture: Picture = pictures[ending]
    return picture


def _pair(caption: Any, members: Members, pictures: dict[str, Any]) -> Examined:
    there = ", ".join(members.spans)
    faults = []
    if not isinstance(caption, str):
        faults.append(members.fault(f"no dialogue, no document and no caption; there are {there}", "layout"))
    elif not caption.strip():
        faults.append(members.fault("a caption without words", "no text"))
    if len(pictures) != 1:
        kind = "placeholders" if pictures else "missing image"
        faults.append(members.fault(f"a caption with {len(pictures)} images; there are {there}", kind))
    if faults:
        return (), tuple(pictures.values()), faults
    turns = Message("user", (ImagePart(0),)), Message("assistant", (str(caption).strip(),))
    return turns, tuple(pictures.values()), []


class WebDatasetSource:
    """Samples in the order of the shards and of their members."""

    def __init__(self, config: WebDataset, shards: Shards) -> None:
        self._config, self._shards = config, shards

    def __len__(self) -> int:
        return min(len(self._shards), self._config.limit or len(self._shards))

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        members = self._shards[index]
        name, record, (messages, pictures, faults) = read_members(members, self._config)
        if faults:
            raise faults[0].at(source=str(members.shard), sample=members.place)
        meta = record.get("meta")
        given = meta if isinstance(meta, dict) else {"cluster": name, "task": members.shard.stem}
        unread = {*unread_fields(record), *PASSED_ON} - {*DOCUMENT_FIELDS, "meta", self._config.caption}
        fields = {key: value for key, value in record.items() if key in unread}
        return Sample(name, messages, pictures, given, fields)
