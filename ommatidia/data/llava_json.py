"""LLaVA conversation files, JSON or JSONL, as they are found in the wild; also ShareGPT and OpenAI messages.

A file is indexed by the byte span of each record and read one record at a time, so that its size does not matter.
"""

from __future__ import annotations

import hashlib
import importlib.util
from array import array
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.files import file_digest, looked
from ommatidia.core.image_file import image_file
from ommatidia.core.picture import FilePicture
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Picture, Sample
from ommatidia.data import json_records
from ommatidia.data.conversation import (
    PASSED_ON,
    from_data_uri,
    inspect_dialogue,
    named_images,
    read_dialogue,
    unread_fields,
)
from ommatidia.data.same_images import SameImages, normal_name
from ommatidia.data.survey import Rows, all_images, file_names, surveyed


class LlavaJSON(SourceConfig):
    """Conversations with images beside them."""

    kind: Literal["llava_json"] = "llava_json"
    path: Path
    """A ``.json`` file that is a list of records, or a file with one record a line."""
    package: str | None = None
    """An installed Python package that ``path`` lies in; None: ``path`` is a path as usual."""
    image_root: Path | None = None
    """Folder that image paths are relative to; None: the folder of the file."""
    split: Literal["all", "train", "held_out"] = "all"
    """``held_out`` and ``train`` share no record and no image: records that share images, even through a third one,
    stay together, and the hash of the first of their paths decides. An image is known by its bytes, however
    it is named: by a relative or absolute path, a link, a copy, a data URI."""
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the images (of the records, where there is no image) that is held out."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many records of the split."""
    group: Literal["general", "knowledge", "ocr_chart", "vision_centric"] = "general"
    task: str | None = None
    """What a benchmark calls this; None: the file's name without ending."""
    at_least: Annotated[int, Field(ge=1)] | None = None
    """Let a JPEG be decoded at a reduced scale with no side below so many pixels; see ``picture.decode``."""
    about: Annotated[int, Field(ge=1)] | None = None
    """About how many records the published file has: told where the file is not here, and nothing else."""

    unhashed: ClassVar[frozenset[str]] = frozenset({"about"})
    located: ClassVar[frozenset[str]] = frozenset({"path", "package", "image_root"})

    def file(self) -> Path:
        """Where the records are. Raises ConfigError when the package is not installed."""
        if self.package is None:
            return self.path
        try:
            spec = importlib.util.find_spec(self.package)
        except ModuleNotFoundError:  # the package around it
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"source.package: no installed package {self.package!r}")
        return Path(next(iter(spec.submodule_search_locations))) / self.path

    def picture(self, image: Any) -> Picture:
        """What a record names as an image. Raises DataError."""
        if not isinstance(image, str):
            raise DataError(f"an image is {type(image).__name__}; expected a path or a data URI", kind="layout")
        if image.startswith("data:"):
            return from_data_uri(image)
        if image.startswith(("http://", "https://")):
            cause = f"{image}: a remote image; download it and give its path"
            raise DataError(cause, kind="missing image")
        path = image_file(self.root(), image)
        return FilePicture(path, self.at_least)

    def open(self) -> LlavaJSONSource:
        """Raises DataError: no such file, not JSON (with the line), no records, nothing left in the split."""
        return LlavaJSONSource(self)

    def inspect(self) -> json_records.JSONInspection:
        """The records of the whole file, whatever the split. Raises DataError when there is no such file."""
        return json_records.JSONInspection(
            self.file(), lambda record: inspect_dialogue(record, self.picture), unread=unread_fields
        )

    def hashed(self) -> Any:
        return {**super().hashed(), "task": self.task or self.path.stem}

    def reads(self) -> Contents:
        """The records that the split and the limit leave, and the images that they name."""
        some = self.split != "all" or self.limit is not None
        rules = ["llava_json", self.split, self.holdout if self.split != "all" else None, self.limit]
        if self.split != "all":  # which files are one image decides what is held out
            rules.append(self.same_images().digest)
        part = f"{self.split}, {self.limit or 'all'} records" if some else ""
        return surveyed(self.file(), rules, lambda: self.open().rows(), file_names, self.root(), part=part)

    def same_images(self) -> SameImages:
        """Which of the files that the whole file names are one image; looked at once inside ``files.settled``."""
        return looked(["same images", self.to_json()], self._same_images)

    def _same_images(self) -> SameImages:
        path = self.file()

        def every() -> Rows:
            spans = json_records.index(path)
            return range(len(spans[0])), spans

        return SameImages.find(all_images(path, ["llava_json", "all"], every, file_names), self.root())

    def root(self) -> Path:
        """The folder that image paths are relative to."""
        return self.image_root or self.file().parent

    def absent(self) -> str | None:
        path = self.file()
        return None if path.is_file() else str(path)

    def published_size(self) -> int | None:
        return self.about

    def describe(self) -> str:
        return f"{self.path.name}" + ("" if self.split == "all" else f" ({self.split})")


class LlavaJSONSource:
    """Records of one file, in file order."""

    def __init__(self, config: LlavaJSON) -> None:
        self._config, self._path = config, config.file()
        content = file_digest(self._path)
        self._starts, self._ends = json_records.index(self._path)
        if len(self._starts) == 0:
            raise json_records.no_records(self._path)
        self._rows = range(len(self._starts))
        self._read(0)  # a file of another kind is refused here, a broken record later on where it is counted
        if config.split != "all":
            wanted = config.split == "held_out"
            keys = _split_keys(self._path, content, config.same_images())
            self._chosen = array("Q", (row for row in self._rows if (keys[row] < config.holdout) == wanted))
        else:
            self._chosen = array("Q", self._rows)
        if config.limit is not None:
            self._chosen = self._chosen[: config.limit]
        if len(self._chosen) == 0:
            raise DataError(
                f"no record of {len(self._starts)} falls into split {config.split!r} at holdout {config.holdout}",
                source=str(self._path),
            )

    def __len__(self) -> int:
        return len(self._chosen)

    def rows(self) -> Rows:
        """The rows of the file that are yielded, in order, and where all of its records lie."""
        return self._chosen, (self._starts, self._ends)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        row = self._chosen[index]
        record = self._read(row)
        name = json_records.own_id(record) or str(row + 1)
        try:
            messages, pictures = read_dialogue(record, self._config.picture)
        except DataError as error:
            raise error.at(source=str(self._path), sample=f"{name} (record {row + 1})") from None
        config = self._config
        paths = [normal_name(image, self._config.root()) for image in named_images(record) if isinstance(image, str)]
        meta = {
            "group": config.group,
            "task": config.task or config.path.stem,
            "cluster": paths[0] if paths else name,
            **{key: record[key] for key in PASSED_ON if record.get(key) is not None},
        }
        fields = {key: record[key] for key in unread_fields(record)}
        return Sample(id=name, messages=messages, images=pictures, meta=meta, fields=fields)

    def _read(self, row: int) -> dict[str, Any]:
        return json_records.read(self._path, self._starts[row], self._ends[row], row=row)


@lru_cache(maxsize=16)
def _split_keys(path: Path, content: str, same: SameImages) -> array[float]:
    """A number in 0..1 a record, equal for records that share images. A broken record goes by its own bytes."""
    starts, ends = json_records.index(path)
    groups = _Groups()
    own: list[str] = []
    with path.open("rb") as file:
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            file.seek(start)
            data = file.read(end - start)
            try:
                record = json_records.read(path, start, end, row=row)
                images = [same.name(image) for image in named_images(record) if isinstance(image, str)]
                keys = [f"image/{image}" for image in images] or [f"record/{_identity(record, data)}"]
            except DataError:
                keys = [f"record/{hashlib.sha256(data).hexdigest()}"]
            groups.join(keys)
            own.append(keys[0])
    return array("d", (_fraction(groups.first(key)) for key in own))


def _identity(record: Mapping[str, Any], data: bytes) -> str:
    return json_records.own_id(record) or hashlib.sha256(data).hexdigest()


def _fraction(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


class _Groups:
    """Keys that belong together, directly or through others; a group is known by its alphabetically first key."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def first(self, key: str) -> str:
        while (parent := self._parent.setdefault(key, key)) != key:
            self._parent[key] = self._parent[parent]
            key = parent
        return key

    def join(self, keys: list[str]) -> None:
        roots = sorted({self.first(key) for key in keys})
        for root in roots[1:]:
            self._parent[root] = roots[0]
