"""Data sets of the library ``datasets``, from disk only: a folder that ``save_to_disk`` wrote, or parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ommatidia.core.config import digest
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError, unknown
from ommatidia.core.files import derived
from ommatidia.core.image_file import image_file
from ommatidia.core.picture import BytesPicture, FilePicture
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import ImagePart, Message, Part, Picture, Sample
from ommatidia.data.conversation import FORMAT_FIELDS, PLACEHOLDER, from_data_uri, literal_marks, read_dialogue
from ommatidia.data.json_records import json_fields, own_id
from ommatidia.data.snapshot import chosen
from ommatidia.data.survey import file_names, is_file_name, named_files

if TYPE_CHECKING:
    from datasets import Dataset


class HFDataset(SourceConfig):
    """Rows with an image, a question and an answer, or with whole conversations."""

    kind: Literal["hf_dataset"] = "hf_dataset"
    path: Path
    """What ``save_to_disk`` of a Dataset or a DatasetDict wrote, a parquet file, or a folder of parquet files."""
    part: str | None = None
    """Which member of a saved DatasetDict, or which parquet files of a snapshot by their names, for example ``train``:
    ``data/train-00000-of-00002.parquet``, ``data/train/0.parquet``. Needed where there are several."""
    config: str | None = None
    """Which configuration of a snapshot that holds several, as its README or its folders name them; ``*``: all."""
    image: str | None = "image"
    """Column of the image or list of images; None: text only."""
    question: str = "question"
    answer: str | None = "answer"
    """None: rows without an answer, to predict on."""
    messages: str | None = None
    """Column of conversations (LLaVA or OpenAI turns); then ``question`` and ``answer`` are not read."""
    id: str | None = None
    """Column that names a row; None: its number."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many rows."""
    group: Literal["general", "knowledge", "ocr_chart", "vision_centric"] = "general"
    task: str | None = None
    """What a benchmark calls this; None: the path's last name."""

    located: ClassVar[frozenset[str]] = frozenset({"path"})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.messages is not None and not self.messages:
            raise ConfigError("messages is empty; name a column, or leave it out")
        return self

    def open(self) -> HFDatasetSource:
        """Raises ConfigError when ``datasets`` is missing or a column is, DataError when the files cannot be read."""
        return HFDatasetSource(self)

    def hashed(self) -> Any:
        hashed = {**super().hashed(), "task": self.task or self.path.stem}
        return hashed if self.config is not None else {name: hashed[name] for name in hashed if name != "config"}

    def reads(self) -> Contents:
        """The tables whole, and the images that their rows name."""
        found = self._tables()
        key = digest(["hf_dataset", found.digest, self.part, self.image, self.messages])
        root = self.path if self.path.is_dir() else self.path.parent
        return Contents.joined([found, named_files(derived(key, self._file_names), root)])

    def _file_names(self) -> list[str]:
        rows = self.rows()
        names = dict.fromkeys(image_names(rows, self.image)) if self.image and self.image in rows.column_names else {}
        if self.messages in rows.column_names:
            for row in rows.select_columns([self.messages]).with_format("arrow").iter(batch_size=1000):
                for turns in row.column(0).to_pylist():
                    names |= dict.fromkeys(_named({"messages": [_without_nothing(turn) for turn in turns or []]}))
        return list(names)

    def rows(self) -> Dataset:
        """All rows, memory-mapped. Raises ConfigError, DataError."""
        return opened(self.path, self.part, self._tables().digest, self.config)

    def _tables(self) -> Contents:
        return tables(self.path, self.part, self.config)

    def absent(self) -> str | None:
        return None if self.path.exists() else str(self.path)

    def describe(self) -> str:
        chosen = ", ".join(name for name in (self.config, self.part) if name)
        return f"{self.path.name}" + (f" ({chosen})" if chosen else "")


class HFDatasetSource:
    """Rows read one at a time from memory-mapped Arrow, images as the bytes that were stored."""

    def __init__(self, config: HFDataset) -> None:
        self._config = config
        self._rows = config.rows()
        columns = [config.image, config.id]
        columns += [config.messages] if config.messages else [config.question, config.answer]
        for column in columns:
            if column is not None and column not in self._rows.column_names:
                raise ConfigError(f"{config.path}: {unknown('column', column, self._rows.column_names)}")
        if len(self._rows) == 0:
            raise DataError("no rows; expected at least one", source=str(config.path))
        # Arrow rows hold images as stored bytes; the default format would decode every image of a row.
        self._rows = self._rows.with_format("arrow")

    def __len__(self) -> int:
        return min(len(self._rows), self._config.limit or len(self._rows))

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        config = self._config
        row: dict[str, Any] = self._rows[index : index + 1].to_pylist()[0]
        name = (own_id({"id": row[config.id]}) if config.id else None) or str(index)
        try:
            messages, pictures = self._dialogue(row, name)
        except DataError as error:
            raise error.at(source=str(config.path), sample=name) from None
        meta: dict[str, Any] = {"group": config.group, "task": config.task or config.path.stem}
        meta["cluster"] = pictures[0].digest if pictures else name
        used = (config.image, config.id, config.messages or config.question, config.answer, *FORMAT_FIELDS)
        fields = json_fields(row, [column for column in used if column is not None])
        return Sample(id=name, messages=messages, images=pictures, meta=meta, fields=fields)

    def _dialogue(self, row: dict[str, Any], name: str) -> tuple[tuple[Message, ...], tuple[Picture, ...]]:
        config = self._config
        images = row[config.image] if config.image else None
        if config.messages:
            beside = {key: row[key] for key in FORMAT_FIELDS if key in row}
            turns = [_without_nothing(turn) for turn in row[config.messages] or []]
            return read_dialogue(
                {**beside, "messages": turns, "images": images}, lambda image: _picture(image, name, config.path)
            )
        question, answer = row[config.question], row[config.answer] if config.answer else ""
        for column, value in ((config.question, question), (config.answer, answer)):
            if not isinstance(value, str):
                raise DataError(f"column {column!r} holds {type(value).__name__}; expected text")
        listed = images if isinstance(images, list) else [] if images is None else [images]
        for fault in literal_marks(question):
            raise fault
        pictures = tuple(_picture(image, name, config.path) for image in listed)
        messages = [Message("user", _parts(question, len(pictures)))]
        if config.answer:
            messages.append(Message("assistant", (answer,)))
        return tuple(messages), pictures


def _parts(question: str, images: int) -> tuple[Part, ...]:
    """A question with its images where ``<image>`` stands, or before it where that stands nowhere. Raises DataError."""
    pieces = question.split(PLACEHOLDER)
    if len(pieces) == 1:
        return (*map(ImagePart, range(images)), question)
    if len(pieces) - 1 != images:
        cause = f"{len(pieces) - 1} {PLACEHOLDER} placeholder(s) in the question but {images} image(s) in the row"
        raise DataError(cause, kind="placeholders")
    parts: list[Part] = [pieces[0]]
    for number, piece in enumerate(pieces[1:]):
        parts += [ImagePart(number), piece]
    return tuple(part for part in parts if part != "")


def _without_nothing(value: Any) -> Any:
    """Arrow fills the fields a part does not have with None; take them out again."""
    if isinstance(value, dict):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value


def _picture(image: Any, name: str, path: Path) -> Picture:
    """What a column may hold for an image: datasets' {bytes, path}, bytes, a path or a data URI. Raises DataError."""
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
        return BytesPicture(image["bytes"], name=f"image of row {name}")
    if isinstance(image, bytes):
        return BytesPicture(image, name=f"image of row {name}")
    where = image.get("path") if isinstance(image, dict) else image
    if not isinstance(where, str):
        raise DataError(f"the image is {type(image).__name__}; expected stored bytes or a path")
    if where.startswith("data:"):
        return from_data_uri(where)
    return FilePicture(image_file(path if path.is_dir() else path.parent, where))


def tables(path: Path, part: str | None = None, config: str | None = None) -> Contents:
    """The data files that are read under a path. Raises DataError when there are none, ConfigError as ``chosen``."""
    if path.is_file():
        return Contents.of_needed({path.name: path})
    found = chosen(path, part=part, config=config)
    return Contents.of_needed({file.relative_to(path).as_posix(): file for file in found})


def _named(record: dict[str, Any]) -> list[str]:
    try:
        return file_names(record)
    except DataError:  # refused and counted where it is read
        return []


def image_names(rows: Dataset, column: str) -> Iterator[str]:
    """Names of files in a column of images: text, or {bytes, path} without bytes, or lists of these."""
    for batch in rows.select_columns([column]).with_format("arrow").iter(batch_size=1000):
        for value in _without_bytes(batch.column(0)).to_pylist():
            for image in value if isinstance(value, list) else [value]:
                if is_file_name(image):
                    yield image


def _without_bytes(column: Any) -> Any:
    """The column with an image's name alone; None where its bytes are stored. Whatever type of Arrow holds it."""
    import pyarrow as pa
    from pyarrow import compute

    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _without_bytes(column.dictionary_decode())
    if hasattr(kind, "value_type"):  # lists of any kind
        return _without_bytes(column.flatten())
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        paths = compute.struct_field(column, "path") if "path" in names else pa.nulls(len(column), pa.string())
        if "bytes" not in names:
            return paths
        stored = compute.binary_length(compute.struct_field(column, "bytes").cast(pa.large_binary()))
        empty = compute.fill_null(compute.equal(stored, 0), True)
        return compute.if_else(empty, _without_bytes(paths), None)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_primitive(kind) or pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    names = [one if isinstance(one, str) else None for one in column.to_pylist()]
    return pa.array(names, pa.string())


@lru_cache(maxsize=16)
def opened(path: Path, part: str | None, content: str, config: str | None = None) -> Dataset:
    """The rows of the files under a path, whose content has this digest, memory-mapped.

    Raises ConfigError, or DataError for files that cannot be read.
    """
    try:
        import datasets
    except ImportError:
        raise ConfigError("the source hf_dataset needs the package datasets: pip install 'ommatidia[hub]'") from None
    parquet = [str(file) for file in chosen(path, part=part, config=config) if file.suffix == ".parquet"]
    try:
        if parquet:
            return datasets.Dataset.from_parquet(parquet)
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error  # the library wraps what pyarrow said in "an error occurred"
        raise DataError(f"{path}: cannot be read ({' '.join(str(cause).split())[:300]})") from None
    except IndexError:  # a folder saved without a single row has no table at all
        raise DataError("no rows; expected at least one", source=str(path)) from None
    if config is not None:
        raise ConfigError(f"{path} holds one data set without configurations; leave out config: {config!r}")
    if isinstance(loaded, datasets.DatasetDict):
        if part is None or part not in loaded:
            raise ConfigError(f"{path} holds several parts; set part: {unknown('part', str(part), map(str, loaded))}")
        return loaded[part]
    if part is not None:
        raise ConfigError(f"{path} holds one data set without parts; leave out part: {part!r}")
    return loaded
