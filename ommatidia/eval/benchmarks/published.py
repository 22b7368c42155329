"""Published: a benchmark that papers report, read from a local copy in its published layout."""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar, Literal, overload

import numpy as np
from pydantic import Field, model_validator

from ommatidia.core.config import digest
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError, unknown
from ommatidia.core.files import derived
from ommatidia.core.types import ImagePart, Message, Part, Picture, Sample
from ommatidia.eval.benchmark import LIMIT_SEED, Benchmark, BenchmarkConfig, choose
from ommatidia.eval.benchmarks.releases.release import Release, listed
from ommatidia.eval.benchmarks.rows import Rows, find_files, open_rows, path_of, picture_of, require
from ommatidia.eval.scoring import ScorerConfig

Prompt = Literal["lmms-eval", "cambrian", "official"]

Versions = Mapping[Prompt, Mapping[str, Any]]
"""Prompts, each with the fields that go with it."""

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a benchmark without its data."""

    title: str
    repository: str
    """Where it is published on the Hugging Face hub; its last part is the folder that is looked for."""
    splits: Mapping[str, int]
    """Splits with their number of rows, the usual one first; 0 where it is not known for sure."""
    metric: str
    traps: str
    """What makes two numbers of one name differ."""
    config: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A question and what was said to it."""

    sample: Sample
    text: str


class Published(BenchmarkConfig):
    """What all published benchmarks share; a kind says how a row becomes a question.

    ``prompt`` names the toolkit whose words are sent; the tokens to generate and the scorer follow it unless given.
    """

    facts: ClassVar[Facts]
    versions: ClassVar[Versions]
    """The prompts there are."""
    columns: ClassVar[tuple[str, ...]]
    """Columns that must be there."""
    served: ClassVar[frozenset[str]] = frozenset()
    """Splits whose answers only a server has."""
    submission_format: ClassVar[Literal["json", "xlsx"]] = "json"
    release: ClassVar[Release | None] = None
    """The files in which it was first published, read where there is no copy in the hub's layout."""
    unhashed = frozenset({"data", "folder"})

    data: Path = Path("data")
    """Folder that holds the copies of benchmarks."""
    folder: str | None = None
    """Folder of this benchmark below ``data``; None: the last part of its published name."""
    split: str = ""
    size: int | None = Field(default=None, ge=1)
    """Rows that must be there; None: as many as published. Give the number to evaluate a part on purpose."""
    limit: int | None = Field(default=None, ge=1)
    """At least so many questions, drawn once and for all; what is scored together is asked together."""
    prompt: Prompt = "lmms-eval"
    scorer: ScorerConfig

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not hasattr(cls, "facts"):
            return given
        versions: dict[str, Mapping[str, Any]] = {str(name): fields for name, fields in cls.versions.items()}
        prompt = given.get("prompt", next(iter(versions)))
        if not isinstance(prompt, str) or prompt not in versions:
            raise ConfigError(f"prompt: {unknown('version', str(prompt), versions)}")
        first = {"name": cls.model_fields["kind"].default, "split": next(iter(cls.facts.splits)), "prompt": prompt}
        return {**first, **versions[prompt], **given}

    @model_validator(mode="after")
    def _known_split(self) -> Published:
        if self.split not in self.facts.splits:
            raise ConfigError(f"split: {unknown('split', self.split, self.facts.splits)}")
        return self

    def open(self) -> Benchmark:
        rows = self._rows()
        require(rows, self.columns, self.name)
        kept = self.kept(rows)
        wanted = self.expected() if self.size is None else self.size
        if not kept or (wanted and len(kept) != wanted):
            hint = f"; set size={len(kept)} to take them" if kept else ""
            raise DataError(
                f"{len(kept)} rows in the split {self.split!r}, expected {wanted or 'some'}{hint}", source=self.name
            )
        return Benchmark(self, PublishedSamples(self, rows, self._chosen(rows, kept)), scorer=self.scorer)

    def examples(self, split: str) -> Sequence[Sample]:
        """Of whatever size: the splits that examples come from are not those that are published as benchmarks."""
        other = self.model_copy(update={"split": split, "few_shot": None, "limit": None})
        rows = other._rows()
        require(rows, self.columns, self.name)
        return PublishedSamples(other, rows, other.kept(rows))

    def prompt_version(self) -> str:
        return "+".join(part for part in (self.prompt, super().prompt_version()) if part)

    def root(self) -> Path:
        return self.data / (self.folder or self.facts.repository.rpartition("/")[2])

    def stem(self) -> str:
        """What the files of the split are called."""
        return self.split

    def parts(self) -> list[tuple[str | None, str]]:
        """The tables it reads: configuration and name of the files."""
        return [(self.facts.config, self.stem())]

    def kept(self, rows: Rows) -> list[int]:
        """Positions of the rows that belong to the benchmark."""
        return list(range(len(rows)))

    def expected(self) -> int:
        """How many rows are kept of the published split; 0 where that is not known for sure."""
        sizes = self.release.sizes if self.release and self.released() else {}
        return sizes.get(self.split, self.facts.splits[self.split])

    def together(self, rows: Rows) -> Sequence[Hashable] | None:
        """For each row what it is scored with, where the metric joins rows."""
        return None

    @abstractmethod
    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        """The row as a question with its references. Raises DataError."""

    def submitted(self, answers: Sequence[Answer]) -> list[dict[str, Any]] | dict[str, Any]:
        """What the server of a split in ``served`` wants: rows, one an answer; or answers by question."""
        raise ConfigError(f"{self.name}: no server is known that scores the split {self.split!r}")

    def describe(self) -> str:
        return f"{self.facts.title}, {self.split}, prompt of {self.prompt}"

    def released(self) -> bool:
        """Whether it is read from the files of its release: where they are there and no copy of the hub's layout is."""
        if self.release is None or self.release.find(self.root(), self.split) is None:
            return False
        try:
            return not find_files(self.root(), config=self.facts.config, split=self.stem())
        except DataError:
            return True

    def _rows(self) -> Rows:
        if self.release is not None and self.released():
            return self.release.read(self.root(), self.split)
        return open_rows(self._files())

    def _files(self) -> list[Path]:
        if self.release is not None and self.released():
            return listed(self.release.find(self.root(), self.split) or [])
        try:
            return find_files(self.root(), config=self.facts.config, split=self.stem())
        except DataError as error:
            first = "" if self.release is None else self.release.describe(self.split)
            raise DataError(
                error.cause + (f"; or the release's own {first}" if first else ""), source=self.name
            ) from None

    def reads(self) -> Contents:
        parts = [super().reads(), self._contents_of_split(self._usual())]
        if self.few_shot is not None and self.few_shot.source is None:
            other = {"split": self.few_shot.split, "few_shot": None, "limit": None}
            parts.append(self.model_copy(update=other)._contents_of_split(lambda rows: self.kept(rows)))
        return Contents.joined(parts)

    def tables(self) -> Contents:
        """The files of the split. Raises DataError."""
        root = self.root()
        return Contents.of_needed({os.path.relpath(file, root): file for file in self._files()})

    def _usual(self) -> Callable[[Rows], list[int]]:
        return lambda rows: self._chosen(rows, self.kept(rows))

    def _contents_of_split(self, chosen: Callable[[Rows], list[int]]) -> Contents:
        """The files of the split, and the images that its rows name beside them."""
        tables = self.tables()

        def names() -> list[str]:
            found: dict[str, None] = {}
            try:
                rows = self._rows()
            except DataError:  # told where it is opened; the files count as they are
                return []
            for position in chosen(rows):
                at = Naming(position, rows.folder)
                with contextlib.suppress(DataError, KeyError, TypeError, ValueError, AttributeError):
                    self.ask(rows[position], at)  # what is wrong with a row is told where it is asked
                found |= dict.fromkeys(at.named)
            return [os.path.relpath(rows.folder / name, self.root()) for name in found]

        config = self.model_copy(update={"name": "", "group": "general", "tolerance": 0.0})
        key = digest([tables.digest, config.hashed_without_places()])
        return Contents.joined([tables, Contents.of_files({name: self.root() / name for name in derived(key, names)})])

    def _chosen(self, rows: Rows, positions: list[int]) -> list[int]:
        if self.limit is None:
            return positions
        keys = self.together(rows)
        if keys is None:
            return [positions[n] for n in choose(len(positions), self.limit)]
        groups: dict[Hashable, list[int]] = {}
        for position in positions:
            groups.setdefault(keys[position], []).append(position)
        listed, chosen = list(groups.values()), list[int]()
        for n in np.random.default_rng(LIMIT_SEED).permutation(len(listed)):
            if len(chosen) >= self.limit:
                break
            chosen += listed[n]
        return chosen


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands."""

    position: int
    folder: Path
    """What paths of images are relative to."""

    def sample(
        self,
        name: object,
        text: str | Sequence[Part],
        images: Sequence[Any],
        references: Sequence[object],
        **meta: Any,
    ) -> Sample:
        """A question: images first and a line break, then ``text``; or ``text`` as parts that place them itself.

        Entries of ``meta`` that are None are left out. Without references it can be asked and not scored.
        """
        pictures: tuple[Picture, ...] = tuple(picture_of(image, self.folder, str(name)) for image in images)
        if isinstance(text, str):
            text = [*(ImagePart(n) for n in range(len(pictures))), f"\n{text}" if pictures else text]
        listed = [str(reference) for reference in references if reference is not None]
        turns = [Message("user", tuple(text))]
        if listed:
            turns.append(Message("assistant", (listed[0],)))
        kept = {key: value for key, value in meta.items() if value is not None}
        return Sample(str(name), tuple(turns), pictures, kept | {"references": tuple(listed)})


@dataclass(frozen=True, slots=True)
class Naming(Place):
    """A place at which a row only says which files its images are; none of them is looked at."""

    named: list[str] = field(default_factory=list)

    def sample(
        self,
        name: object,
        text: str | Sequence[Part],
        images: Sequence[Any],
        references: Sequence[object],
        **meta: Any,
    ) -> Sample:
        self.named.extend(path for image in images if (path := path_of(image)) is not None)
        return Sample(str(name), ())


class PublishedSamples(Sequence[Sample]):
    """The chosen rows as samples, read when asked for."""

    def __init__(self, config: Published, rows: Rows, positions: Sequence[int]) -> None:
        self._config, self._rows, self._positions = config, rows, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> PublishedSamples: ...
    def __getitem__(self, index: int | slice) -> Sample | PublishedSamples:
        if isinstance(index, slice):
            return PublishedSamples(self._config, self._rows, self._positions[index])
        position = self._positions[index]
        try:
            return self._config.ask(self._rows[position], Place(position, self._rows.folder))
        except DataError as error:
            raise error.at(source=self._config.name, sample=f"#{position}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            cause = f"the row does not have the published form ({type(error).__name__}: {error})"
            raise DataError(cause, source=self._config.name, sample=f"#{position}") from None


def lettered_lines(options: Sequence[object]) -> str:
    """One line an option: ``A. text``."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options))
