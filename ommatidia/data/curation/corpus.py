"""Corpus: what curation reads, in any layout that the readers take, as records in LLaVA's layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from ommatidia.core.config import Config
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.files import file_digest, looked
from ommatidia.core.picture import FilePicture
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import Picture, Sample
from ommatidia.data import json_records
from ommatidia.data.conversation import PASSED_ON, from_data_uri
from ommatidia.data.curation.llava_layout import Layout, dialogue, document, llava_record
from ommatidia.data.guess import guess
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.pairs import Pairs
from ommatidia.data.survey import Rows, file_names, surveyed

Read = tuple[int, dict[str, Any] | DataError]
"""The number of a record from 1, and what it says in LLaVA's layout, or what is wrong with it."""


class Corpus(Config):
    """A data file of any layout that its first record shows, or a source that says how it is read."""

    path: Path | None = None
    """JSON, JSONL, parquet or a tar shard: dialogues of any layout, documents, pairs."""
    source: SourceConfig | None = None
    """Instead of ``path``: a source with its options, as mixtures have it."""
    image_root: Path | None = None
    """Folder that image paths are relative to; None: the folder of the file. A ``source`` says it itself."""
    category: str = "all"
    source_field: str | None = None
    """Field of a record that names its source, in files of several; None: the corpus's own name."""
    category_field: str | None = None
    """Field of a record that names its category."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.path is None) == (self.source is None):
            raise ConfigError("give one of path and source")
        if self.source is not None and self.image_root is not None:
            raise ConfigError("image_root goes with path; the source has options of its own")
        return self

    def reader(self) -> SourceConfig:
        """The source that reads it. Raises ConfigError for a file that says nothing of its layout."""
        if self.source is not None:
            return self.source
        assert self.path is not None
        # Whatever its name, what is no table and no shard has been read as conversations.
        if self.path.suffix in (".json", ".jsonl", ".parquet", ".tar"):
            return guess(self.path, images=self.image_root)
        return LlavaJSON(path=self.path, image_root=self.image_root)

    def open(self) -> Origin:
        """Raises ConfigError or DataError where it cannot be read as a whole."""
        reader = self.reader()
        return JSONOrigin(reader) if isinstance(reader, LlavaJSON) else SampleOrigin(reader)

    def content(self) -> str:
        """Digest of the records, and of their images too where the source does not keep them apart."""
        reader = self.reader()
        if isinstance(reader, LlavaJSON) and reader.split == "all":
            return file_digest(reader.file())
        return reader.fingerprint()

    def images(self) -> Contents:
        """The image files that the records name, by content. Raises DataError for a missing file."""
        reader = self.reader()
        if not isinstance(reader, LlavaJSON):
            return reader.contents()
        path = reader.file()

        def rows() -> Rows:
            starts, ends = json_records.index(path)
            return range(len(starts)), (starts, ends)

        return looked(["corpus", self.to_json()], lambda: surveyed(path, ["curate"], rows, file_names, reader.root()))


class Origin(ABC):
    """A corpus, opened."""

    file: str
    """What provenance and errors call it."""
    layout: Layout
    """Of its records; of the first one, where a corpus may hold several."""

    @abstractmethod
    def __len__(self) -> int:
        """How many records it has."""

    @abstractmethod
    def records(self) -> Iterator[Read]:
        """Every record in order."""

    @abstractmethod
    def picture(self, image: Any) -> Picture:
        """The image that a record names, not opened. Raises DataError."""

    @abstractmethod
    def path(self, image: Any) -> Path | None:
        """The file of an image; None for one that stands in the record or in another file."""


class JSONOrigin(Origin):
    """A file of conversations, read as it is written: whether an image is there is seen where it is needed."""

    layout: Layout = "dialogue"

    def __init__(self, config: LlavaJSON) -> None:
        self._path, self._root = config.file(), config.root()
        self.file = str(self._path)
        self._starts, self._ends = json_records.index(self._path)
        chosen = config.split != "all" or config.limit is not None
        self._rows = config.open().rows()[0] if chosen else range(len(self._starts))

    def __len__(self) -> int:
        return len(self._rows)

    def records(self) -> Iterator[Read]:
        for row in self._rows:
            name = ""
            try:
                data = json_records.read(self._path, self._starts[row], self._ends[row], row=row)
                name = json_records.own_id(data) or str(row + 1)
                yield row + 1, llava_record(data)
            except DataError as error:
                yield row + 1, error.at(source=self.file, sample=f"{name} (record {row + 1})")

    def picture(self, image: Any) -> Picture:
        path = self.path(image)
        if path is not None:
            return FilePicture(path)
        if str(image).startswith("data:"):
            return from_data_uri(image)
        raise DataError(f"{image}: a remote image; download it and give its path", kind="missing image")

    def path(self, image: Any) -> Path | None:
        if image.startswith(("data:", "http://", "https://")):
            return None
        return self._root / image.removeprefix("file://")


class SampleOrigin(Origin):
    """Any source, read by its own reader. An image without a file of its own is known by its place in its sample."""

    def __init__(self, config: SourceConfig) -> None:
        self._source: Source = config.open()
        self.file = str(getattr(config, "path", None) or getattr(config, "shards", None) or config.describe())
        self._last: tuple[int, Sample] | None = None
        self.layout = "pair" if isinstance(config, Pairs) else self._first_layout()

    def __len__(self) -> int:
        return len(self._source)

    def records(self) -> Iterator[Read]:
        for index in range(len(self)):
            try:
                yield index + 1, self._record(index)
            except DataError as error:
                yield index + 1, error.at(source=self.file, sample=f"record {index + 1}")

    def picture(self, image: Any) -> Picture:
        if isinstance(image, str):
            return FilePicture(Path(image))
        index, number = image
        return self._sample(index).images[number]

    def path(self, image: Any) -> Path | None:
        return Path(image) if isinstance(image, str) else None

    def _record(self, index: int) -> dict[str, Any]:
        sample = self._sample(index)
        images = [
            str(picture.path.absolute()) if isinstance(picture, FilePicture) else [index, number]
            for number, picture in enumerate(sample.images)
        ]
        if sample.messages and sample.messages[0].role == "document":
            said = document(sample.messages[0], images)
        else:
            said = dialogue(sample.messages, images)
            if len(images) == 1:
                said["image"] = images
        passed = {key: sample.meta[key] for key in PASSED_ON if sample.meta.get(key) is not None}
        return {"id": sample.id, **passed, **sample.fields, **said}

    def _sample(self, index: int) -> Sample:
        if self._last is None or self._last[0] != index:
            self._last = index, self._source[index]
        return self._last[1]

    def _first_layout(self) -> Layout:
        for index in range(len(self)):
            try:
                messages = self._sample(index).messages
            except DataError:
                continue
            if messages and messages[0].role == "document":
                return "document"
            asked = any(message.text.strip() for message in messages if message.role == "user")
            return "dialogue" if asked else "pair"
        return "dialogue"
