"""Interleaved documents from a file: text and images in reading order, a loss on all text. See ``documents``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError
from ommatidia.core.image_file import image_file
from ommatidia.core.picture import FilePicture
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Picture, Sample
from ommatidia.data import json_records
from ommatidia.data.conversation import from_data_uri
from ommatidia.data.documents import DOCUMENT_FIELDS, Layout, read_document
from ommatidia.data.survey import Rows, recorded, surveyed


class Interleaved(SourceConfig):
    """Documents of text and images, as MMC4-core (matched sentences) or OBELICS (page order) write them."""

    kind: Literal["interleaved"] = "interleaved"
    path: Path
    """A ``.jsonl`` file with one document a line, or a ``.json`` list."""
    image_root: Path | None = None
    """Folder that image names are relative to; None: the folder of the file."""
    place: Literal["before", "after"] = "before"
    """On which side of its sentence an image of MMC4 stands. OBELICS has an order of its own."""
    most_images: Annotated[int, Field(ge=0)] | None = None
    """The first so many of a document, in the order of the file; None: all. VILA: 6; MM1: 16."""
    least_similarity: float | None = None
    """Images of MMC4 whose ``matched_sim`` is lower are left out. OpenFlamingo: 0.24."""
    separator: str = " "
    """Between two texts without an image in between."""
    after_image: str = ""
    """Between an image and the text behind it. VILA's first release: nothing; the later ones: a line break."""
    missing: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of a document one of whose images is not there; ``leave_out`` keeps the document without it."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many documents."""

    located: ClassVar[frozenset[str]] = frozenset({"path", "image_root"})

    def open(self) -> InterleavedSource:
        """Raises DataError: no such file, not JSON (with the line), no records."""
        return InterleavedSource(self)

    def inspect(self) -> json_records.JSONInspection:
        return json_records.JSONInspection(self.path, lambda record: read_document(record, self.picture, self.layout()))

    def layout(self) -> Layout:
        """How documents are laid out."""
        return Layout(
            place=self.place, most_images=self.most_images, least_similarity=self.least_similarity,
            separator=self.separator, after_image=self.after_image, leave_out_missing=self.missing == "leave_out",
        )  # fmt: skip

    def picture(self, value: Any) -> Picture:
        """A path, a data URI, or MMC4's ``image_info``: its ``image_base64`` or ``image_name``. Raises DataError."""
        if isinstance(value, Mapping):
            if isinstance(data := value.get("image_base64"), str):
                return from_data_uri(f"data:image/jpeg;base64,{data}")
            value = _name(value)
        if not isinstance(value, str):
            raise DataError(f"an image is {type(value).__name__}; expected a name or a data URI", kind="layout")
        if value.startswith("data:"):
            return from_data_uri(value)
        if value.startswith(("http://", "https://")):
            cause = f"{value}: a remote image, and no run fetches any; download it and write its path into the document"
            raise DataError(f"{cause}, or leave it out (missing: leave_out)", kind="missing image")
        return FilePicture(image_file(self.root(), value))

    def root(self) -> Path:
        """The folder that image names are relative to."""
        return self.image_root or self.path.parent

    def hashed(self) -> Any:
        return {**super().hashed(), "task": self.path.stem}

    def reads(self) -> Contents:
        """The documents up to the limit, and the images that the layout takes of them."""
        layout = self.layout()

        def names(record: dict[str, Any]) -> list[str]:
            return recorded(lambda resolve: read_document(record, resolve, layout), _name)

        rules = ["interleaved", layout.hashed(), self.limit]
        part = "" if self.limit is None else f"{self.limit} documents"
        return surveyed(self.path, rules, lambda: self.open().rows(), names, self.root(), part=part)

    def absent(self) -> str | None:
        return None if self.path.is_file() else str(self.path)

    def describe(self) -> str:
        return self.path.name


def _name(value: Any) -> Any:
    """What an image is called; None for one whose bytes stand in the document."""
    if not isinstance(value, Mapping):
        return value
    return None if isinstance(value.get("image_base64"), str) else value.get("image_name") or value.get("raw_url")


class InterleavedSource:
    """Documents of one file, in file order."""

    def __init__(self, config: Interleaved) -> None:
        self._config = config
        self._starts, self._ends = json_records.index(config.path)
        if len(self._starts) == 0:
            raise DataError("no records; expected one document a line, or a JSON list", source=str(config.path))

    def __len__(self) -> int:
        return min(len(self._starts), self._config.limit or len(self._starts))

    def rows(self) -> Rows:
        """The documents that are yielded, and where all of them lie."""
        return range(len(self)), (self._starts, self._ends)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        config = self._config
        record = json_records.read(config.path, self._starts[index], self._ends[index], row=index)
        name = json_records.own_id(record) or str(index + 1)
        messages, pictures, faults = read_document(record, config.picture, config.layout())
        if faults:
            raise faults[0].at(source=str(config.path), sample=f"{name} (record {index + 1})")
        fields = {key: value for key, value in record.items() if key not in DOCUMENT_FIELDS}
        return Sample(name, messages, pictures, {"cluster": name, "task": config.path.stem}, fields)
