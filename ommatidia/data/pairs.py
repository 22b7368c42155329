"""Images with captions from the web, as COYO lists them; rows are filtered by what the list says about them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ommatidia.core.config import digest
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.files import derived, file_digest
from ommatidia.core.image_file import image_file
from ommatidia.core.picture import BytesPicture, FilePicture, SpanPicture
from ommatidia.core.source import Inspection, SourceConfig
from ommatidia.core.types import ImagePart, Message, Picture, Sample
from ommatidia.data import hub, json_records
from ommatidia.data.shards import Members, ShardInspection, Shards, absent_shards, shard_contents
from ommatidia.data.survey import Rows, is_file_name, named_files, surveyed


class Pairs(SourceConfig):
    """Images with one caption each, from JSON, JSONL, parquet or tar; the caption is what is learned."""

    kind: Literal["pairs"] = "pairs"
    path: Path
    """A ``.jsonl`` or ``.json`` file, a parquet file, a folder of these, or tar shards by a pattern: there the image
    stands beside a caption (txt), a row (json), or both."""
    part: str | None = None
    """Which parquet files of a folder that holds several parts, as ``hf_dataset`` takes it."""
    config: str | None = None
    """Which configuration of a folder that holds several, as ``hf_dataset`` takes it; ``*``: all."""
    image_root: Path | None = None
    """Folder that image names are relative to; None: that of the file."""
    image: str = "image"
    """Field of the image's name or bytes; with braces, what its name is made of: ``{id}.jpg``."""
    caption: str = "text"
    """Field of the caption."""
    least_side: Annotated[int, Field(ge=1)] | None = None
    """Only rows whose ``width`` and ``height`` are at least so many pixels, as the list says."""
    similarity: tuple[str, ...] = ()
    """Fields whose sum is compared with ``least_similarity``."""
    least_similarity: float | None = None
    """VILA: clip_similarity_vitb32 + clip_similarity_vitl14 > 0.6."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many rows that are left."""

    located: ClassVar[frozenset[str]] = frozenset({"path", "image_root"})

    def model_post_init(self, context: Any) -> None:
        if bool(self.similarity) != (self.least_similarity is not None):
            raise ConfigError("similarity and least_similarity go together; give both or none")
        if (self.part or self.config) and not _is_parquet(self.path):
            raise ConfigError(f"{self.path}: part and config choose among parquet files; leave them out")

    @property
    def filtered(self) -> bool:
        return self.least_side is not None or bool(self.similarity)

    def open(self) -> PairsSource:
        """Raises DataError: no such file, nothing left by the filters; ConfigError: parquet without ``datasets``."""
        return PairsSource(self)

    def inspect(self) -> Inspection:
        if _is_tar(self.path):
            return ShardInspection(str(self.path), lambda members: _from_members(members, self))
        if _is_parquet(self.path):
            return super().inspect()
        return json_records.JSONInspection(self.path, self.examine)

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether a row passes the filters. Raises DataError when what they ask for is no number."""
        sides = ("width", "height") if self.least_side is not None else ()
        for field in (*sides, *self.similarity):
            if not isinstance(row.get(field), int | float):
                raise DataError(f"{field!r} is {type(row.get(field)).__name__}; expected a number", kind="layout")
        if self.least_side is not None and min(row["width"], row["height"]) < self.least_side:
            return False
        return self.least_similarity is None or sum(row[field] for field in self.similarity) >= self.least_similarity

    def examine(self, row: Mapping[str, Any]) -> json_records.Examined:
        """The two turns, the image, and everything that is wrong with the row. A row filtered away is as it is."""
        faults: list[DataError] = []
        try:
            if self.filtered and not self.keeps(row):
                return (), (), []
        except DataError as error:
            faults.append(error)
        caption = row.get(self.caption)
        if not isinstance(caption, str):
            fields = ", ".join(map(repr, row)) or "none"
            cause = f"{self.caption!r} is {type(caption).__name__}; expected a caption; the fields are {fields}"
            faults.append(DataError(cause, kind="layout"))
        elif not caption.strip():
            faults.append(DataError("a caption without words", kind="no text"))
        pictures: tuple[Picture, ...] = ()
        try:
            pictures = (self._picture(row),)
        except DataError as error:
            faults.append(error)
        if faults:
            return (), pictures, faults
        turns = Message("user", (ImagePart(0),)), Message("assistant", (str(caption).strip(),))
        return turns, pictures, []

    def _picture(self, row: Mapping[str, Any]) -> Picture:
        value = self._image(row)
        if isinstance(value, SpanPicture):
            return value
        if isinstance(value, bytes):
            return BytesPicture(value)
        if not isinstance(value, str):
            raise DataError(f"the image is {type(value).__name__}; expected a name or bytes", kind="layout")
        return FilePicture(image_file(self.root(), value))

    def _image(self, row: Mapping[str, Any]) -> Any:
        """What the row says of its image: bytes, a name, a member of a shard. Raises DataError."""
        try:
            value = self.image.format_map(row) if "{" in self.image else row[self.image]
        except KeyError as error:
            raise DataError(f"no field {error}, which names the image", kind="layout") from None
        return value.get("bytes") or value.get("path") if isinstance(value, Mapping) else value

    def root(self) -> Path:
        """The folder that image names are relative to."""
        return self.image_root or (self.path if self.path.is_dir() else self.path.parent)

    def hashed(self) -> Any:
        hashed = {**super().hashed(), "task": self.path.stem}
        unset = [name for name in ("part", "config") if hashed[name] is None]
        return {name: value for name, value in hashed.items() if name not in unset}

    def reads(self) -> Contents:
        """The rows that the filters and the limit leave of a list, tables and shards whole, and the images named."""
        if _is_tar(self.path):
            return shard_contents(str(self.path))
        if _is_parquet(self.path):
            tables = self.tables()
            key = ["pairs", tables.digest, self.image]
            return Contents.joined([tables, named_files(derived(digest(key), self._table_names), self.root())])
        rules = ["pairs", self.image, self.limit, self._filter()]
        part = f"{self.limit or 'all'} rows, filtered" if self.filtered or self.limit else ""
        return surveyed(self.path, rules, lambda: self.open().rows(), self._names, self.root(), part=part)

    def records_digest(self) -> str:
        """Of the rows alone, whatever images they name. Raises DataError."""
        if _is_tar(self.path):
            return shard_contents(str(self.path)).digest
        return self.tables().digest if _is_parquet(self.path) else file_digest(self.path)

    def tables(self) -> Contents:
        """The parquet files that are read. Raises ConfigError, DataError."""
        return hub.tables(self.path, self.part, self.config)

    def table(self) -> Any:
        """Their rows, memory-mapped. Raises ConfigError, DataError."""
        return hub.opened(self.path, self.part, self.tables().digest, self.config)

    def _filter(self) -> list[Any]:
        return [self.least_side, list(self.similarity), self.least_similarity]

    def _names(self, row: Mapping[str, Any]) -> list[str]:
        value = self._image(row)
        return [value] if is_file_name(value) else []

    def _table_names(self) -> list[str]:
        table = self.table()
        if "{" not in self.image:
            return list(dict.fromkeys(hub.image_names(table, self.image))) if self.image in table.column_names else []
        fields = [field for _, field, _, _ in Formatter().parse(self.image) if field]
        rows = (row for row in _Parquet(self).each(fields) if not isinstance(row, DataError))
        return list(dict.fromkeys(self.image.format_map(row) for row in rows))

    def absent(self) -> str | None:
        if _is_tar(self.path):
            return absent_shards(str(self.path))
        return None if self.path.exists() else str(self.path)

    def describe(self) -> str:
        return self.path.name


class PairsSource:
    """The rows that the filters leave, in their order."""

    def __init__(self, config: Pairs) -> None:
        self._config = config
        self._rows = _rows(config)
        self._kept: range | array[int] = range(len(self._rows))
        if config.filtered:
            self._kept = _kept(config, config.records_digest())
        if len(self._kept) == 0:
            raise DataError(f"none of {len(self._rows)} rows is left by the filters", source=str(config.path))

    def __len__(self) -> int:
        return min(len(self._kept), self._config.limit or len(self._kept))

    def rows(self) -> Rows:
        """The rows of a list that are yielded, and where all of them lie."""
        assert isinstance(self._rows, _Lines)
        return self._kept[: len(self)], self._rows.spans

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        row = self._kept[index]
        record = self._rows.read(row)
        name = json_records.own_id(record) or str(row + 1)
        messages, pictures, faults = self._config.examine(record)
        if faults:
            raise faults[0].at(source=str(self._config.path), sample=f"{name} (record {row + 1})")
        fields = json_records.json_fields(record, ("id", self._config.image, self._config.caption))
        return Sample(name, messages, pictures, {"cluster": name, "task": self._config.path.stem}, fields)


class _Lines:
    """Rows of JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.spans = self._starts, self._ends = json_records.index(path)
        if len(self._starts) == 0:
            raise DataError("no records; expected one row a line, or a JSON list", source=str(path))

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, row: int) -> dict[str, Any]:
        return json_records.read(self._path, self._starts[row], self._ends[row], row=row)

    def each(self, columns: list[str]) -> Iterator[dict[str, Any] | DataError]:
        return (record for _, record in json_records.read_records(self._path))


class _Parquet:
    """Rows of memory-mapped Arrow."""

    def __init__(self, config: Pairs) -> None:
        self._table = config.table().with_format("arrow")
        if len(self._table) == 0:
            raise DataError("no rows; expected at least one", source=str(config.path))

    def __len__(self) -> int:
        return len(self._table)

    def read(self, row: int) -> dict[str, Any]:
        return dict(self._table[row : row + 1].to_pylist()[0])

    def each(self, columns: list[str]) -> Iterator[dict[str, Any] | DataError]:
        known = [column for column in columns if column in self._table.column_names]
        for batch in self._table.select_columns(known).iter(batch_size=10_000):
            yield from batch.to_pylist()


class _Shards:
    """Rows of members: what the JSON beside an image says, the image, and the words of the text beside it."""

    def __init__(self, config: Pairs) -> None:
        self._config, self._shards = config, Shards.open(str(config.path))

    def __len__(self) -> int:
        return len(self._shards)

    def read(self, row: int) -> dict[str, Any]:
        return _row(self._shards[row], self._config)

    def each(self, columns: list[str]) -> Iterator[dict[str, Any] | DataError]:
        for row in range(len(self)):
            try:
                yield self.read(row)
            except DataError as error:
                yield error


def _row(members: Members, config: Pairs) -> dict[str, Any]:
    row: dict[str, Any] = {"id": members.key}
    row |= members.record("json") if "json" in members.spans else {}
    if "txt" in members.spans:
        row[config.caption] = members.text("txt")
    pictures = list(members.pictures().values())
    if len(pictures) != 1:
        there = f"{len(pictures)} images beside the caption; there are {', '.join(members.spans)}"
        raise members.fault(there, "placeholders" if pictures else "missing image")
    return {**row, config.image: pictures[0]}


def _from_members(members: Members, config: Pairs) -> tuple[str | None, json_records.Examined]:
    try:
        row = _row(members, config)
    except DataError as error:
        return None, ((), (), [error])
    return str(row["id"]), config.examine(row)


def _rows(config: Pairs) -> _Lines | _Parquet | _Shards:
    if _is_tar(config.path):
        return _Shards(config)
    return _Parquet(config) if _is_parquet(config.path) else _Lines(config.path)


@lru_cache(maxsize=8)
def _kept(config: Pairs, content: str) -> array[int]:
    """Rows that pass, and those that are broken, which are refused where they are read."""
    rows = _rows(config)
    kept = array("Q")
    for number, row in enumerate(rows.each(["width", "height", *config.similarity])):
        try:
            keep = isinstance(row, DataError) or config.keeps(row)
        except DataError:
            keep = True
        if keep:
            kept.append(number)
    return kept


def _is_tar(path: Path) -> bool:
    return path.suffix == ".tar"


def _is_parquet(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".parquet"
