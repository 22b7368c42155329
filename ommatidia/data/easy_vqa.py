"""easy-VQA: 5,000 small images of one coloured shape and 48,248 questions, from the PyPI package easy-vqa (MIT).

13 answers, 107 distinct questions. Majority answer per question string, train applied to test: 67.0 %.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.files import file_digest
from ommatidia.core.picture import FilePicture
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import ImagePart, Message, Picture, Sample

Entry = tuple[str, str, int]
"""Question, answer, number of the image."""

_COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
_SHAPES = ("circle", "rectangle", "triangle")


class EasyVQA(SourceConfig):
    """The split of the package, whole or its first images."""

    kind: Literal["easy_vqa"] = "easy_vqa"
    split: Literal["train", "test"] = "train"
    pictures: Annotated[int, Field(ge=1)] | None = None
    """Only so many images; None: all (4,000 in train, 1,000 in test)."""
    per_picture: Annotated[int, Field(ge=1)] | None = None
    """At most so many questions an image, spread over its list; None: all, about ten."""
    asks: Annotated[tuple[Literal["colour", "form", "present"], ...], Field(min_length=1)] | None = None
    """Kinds of question to ask; None: all. Three in four are of kind present: yes or no, and easily guessed blind."""

    def open(self) -> EasyVQASource:
        """Raises ConfigError when the package is not installed, DataError when its files are broken."""
        return EasyVQASource(self, data_folder() / self.split)

    def reads(self) -> Contents:
        """The questions of the split, and the images that are asked about."""
        folder = data_folder() / self.split
        asked = {f"images/{path.name}": path for path in self.open().files()}
        questions = {"questions.json": folder / "questions.json"}
        return Contents.joined([Contents.of_needed(questions), Contents.of_files(asked)])

    def describe(self) -> str:
        return f"easy-VQA ({self.split}, {self.pictures or 'all'} pictures)"


def data_folder() -> Path:
    """Where the package keeps its data. Raises ConfigError when it is not installed."""
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the source easy_vqa needs the package easy-vqa: pip install 'ommatidia[quickstart]'")
    return Path(spec.submodule_search_locations[0]) / "data"


class EasyVQASource:
    """Questions grouped by image."""

    def __init__(self, config: EasyVQA, folder: Path) -> None:
        self._split, self._folder = config.split, folder
        questions = folder / "questions.json"
        self._entries = _chosen(_by_picture(questions, file_digest(questions)), config)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        question, answer, number = self._entries[index]
        picture = self._picture(number)
        meta = {
            "group": "general",
            "task": "easy_vqa",
            "variant": _variant(answer),
            "cluster": picture.digest,
            "options": list(_options(answer)),
        }
        return Sample(
            id=f"easy_vqa-{self._split}-{number}-{index}",
            messages=(Message("user", (ImagePart(0), question)), Message("assistant", (answer,))),
            images=(picture,),
            meta=meta,
        )

    def pictures(self) -> Iterator[Picture]:
        """All images asked about, undecoded."""
        return (FilePicture(path) for path in self.files())

    def files(self) -> Iterator[Path]:
        """The files of all images asked about."""
        return (self._picture(number).path for number in dict.fromkeys(number for _, _, number in self._entries))

    def _picture(self, number: int) -> FilePicture:
        return FilePicture(self._folder / "images" / f"{number}.png")


def _options(answer: str) -> tuple[str, ...]:
    return next(options for options in (_COLOURS, _SHAPES, ("yes", "no")) if answer in options)


def _variant(answer: str) -> str:
    return "colour" if answer in _COLOURS else "form" if answer in _SHAPES else "present"


@lru_cache(maxsize=2)
def _by_picture(path: Path, content: str) -> dict[int, tuple[Entry, ...]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        entries = [(str(question), str(answer), int(number)) for question, answer, number in rows]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected the questions of the package easy-vqa") from None
    except ValueError:
        raise DataError(f"{path}: not a list of [question, answer, picture]; reinstall the package easy-vqa") from None
    grouped: dict[int, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry[2], []).append(entry)
    return {number: tuple(of_picture) for number, of_picture in grouped.items()}


def _chosen(grouped: dict[int, tuple[Entry, ...]], config: EasyVQA) -> list[Entry]:
    """The entries a config asks for. An image without a question of the wanted kinds is asked nothing."""
    chosen: list[Entry] = []
    for number in list(grouped)[: config.pictures]:
        entries = [entry for entry in grouped[number] if config.asks is None or _variant(entry[1]) in config.asks]
        count = len(entries) if config.per_picture is None else min(config.per_picture, len(entries))
        # Evenly spaced, and shifted from image to image: the package lists the kinds of question in a fixed order.
        chosen += [entries[(number + k * len(entries) // count) % len(entries)] for k in range(count)]
    return chosen
