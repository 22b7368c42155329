"""Which kind of source a data file is, from its ending and the fields of its first record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.source import SourceConfig
from ommatidia.data import json_records
from ommatidia.data.hub import HFDataset
from ommatidia.data.interleaved import Interleaved
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.pairs import Pairs
from ommatidia.data.webdataset import WebDataset


def guess(path: Path, *, images: Path | None = None) -> SourceConfig:
    """A source that reads this file with its default options. Raises ConfigError: an ending that says nothing."""
    if path.suffix == ".parquet":
        return _guess_table(path, images)
    if path.suffix == ".tar":
        if images is not None:
            raise ConfigError(f"{path}: a shard holds its images itself; leave out --images")
        return WebDataset(shards=str(path))
    if path.suffix not in (".json", ".jsonl"):
        raise ConfigError(
            f"{path}: ends in {path.suffix!r}; expected .json, .jsonl, .parquet, .tar, or a source in .yaml"
        )
    fields = first_record(path)
    if "text_list" in fields or ("texts" in fields and "images" in fields):
        return Interleaved(path=path, image_root=images)
    if "conversations" not in fields and "messages" not in fields:
        for caption in ("text", "caption"):
            if caption in fields and "image" in fields:
                return Pairs(path=path, image_root=images, caption=caption)
    return LlavaJSON(path=path, image_root=images)


def _guess_table(path: Path, images: Path | None) -> SourceConfig:
    """Rows of conversations, or of questions with answers, are the hub's; others are pairs."""
    columns = _columns(path)
    turns = next((name for name in ("messages", "conversations") if name in columns), None)
    if turns is None and not {"question", "answer"} <= columns:
        return Pairs(path=path, image_root=images)
    if images is not None:
        raise ConfigError(f"{path}: the images of such a table lie in it or beside it; leave out --images")
    return HFDataset(
        path=path,
        image=next((name for name in ("image", "images") if name in columns), None),
        messages=turns,
        id="id" if "id" in columns else None,
    )


def _columns(path: Path) -> set[str]:
    """Names of a table's columns; none where it cannot be read, which its source says in full."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return set()
    try:
        return set(parquet.read_schema(path).names)
    except (OSError, ArrowException):
        return set()


def first_record(path: Path) -> dict[str, Any]:
    """The first record that can be read; empty where none can."""
    try:
        return next((data for _, data in json_records.read_records(path) if isinstance(data, dict)), {})
    except DataError:
        return {}
