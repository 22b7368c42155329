"""Drawn sources, one kind a task: images, questions and exact answers from (seed, image number) alone."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache, partial
from random import Random
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.picture import DrawnPicture
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import ImagePart, Message, Picture, Sample
from ommatidia.data.synthetic.attributes import Attributes
from ommatidia.data.synthetic.charts import Charts
from ommatidia.data.synthetic.counts import Counts
from ommatidia.data.synthetic.relations import Relations
from ommatidia.data.synthetic.task import DRAWING_VERSION, Question, Scene, Split, Task, select
from ommatidia.data.synthetic.written import Numbers, Words

_SCENES_KEPT = 256

Composed = tuple[Scene, tuple[Question, ...]]


def composed(task: Task, variants: tuple[str, ...], *, split: Split, seed: int, number: int, count: int) -> Composed:
    """Scene ``number`` of a task and ``count`` questions about it; a pure function of its arguments."""
    rng = Random(f"{task.name}/{DRAWING_VERSION}/{split}/{seed}/{number}")
    scene = task.compose(rng, split)
    return scene, tuple(select(scene.questions(rng), variants, count))


def check_variants(task: Task, variants: tuple[str, ...], count: int) -> None:
    """Raise ConfigError unless every scene of the task has ``count`` questions of these variants."""
    for variant in variants:
        if variant not in task.variants:
            raise ConfigError(unknown(f"question variant of {task.name}", variant, task.variants))
    most = sum(task.variants[variant] for variant in variants)
    if count > most:
        raise ConfigError(
            f"per_picture is {count}, but every picture of {task.name} is only sure to have {most} questions"
        )


def meta(task: Task, question: Question, *, form: str, cluster: str) -> dict[str, Any]:
    """What a benchmark or a report wants to know about a question."""
    described: dict[str, Any] = {
        "group": task.group,
        "task": f"{form}_{task.name}",
        "variant": question.variant,
        "cluster": cluster,
    }
    return described | ({"options": list(question.options)} if question.options else {})


class DrawnConfig(SourceConfig):
    """What all drawn sources share. Train and test never share a font, a colour pair or a layout.

    The best blind guess that each kind states knows the question and not the image: the majority answer of every
    question string in train, applied to test, at the default settings (``benchmarks/drawn_tasks.py --pictures 2000``).
    """

    split: Split = "train"
    pictures: Annotated[int, Field(ge=1)] = 1000
    per_picture: Annotated[int, Field(ge=1)] = 4
    """Questions about each image: features of an image are computed once however many questions it has."""
    size: Annotated[int, Field(ge=32, le=4096)] = 128
    """Side of the square images in pixels."""
    seed: Annotated[int, Field(ge=0)] = 0
    asks: tuple[str, ...] | None = None
    """Question variants to ask; None: all of the task."""

    @abstractmethod
    def task(self) -> Task:
        """What is drawn and asked."""

    @property
    def variants(self) -> tuple[str, ...]:
        """The question variants asked."""
        return tuple(self.task().variants) if self.asks is None else self.asks

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_variants(self.task(), self.variants, self.per_picture)
        return self

    def open(self) -> Source:
        """Raises ConfigError when a package that fonts or tables come from is missing."""
        return DrawnSource(self)

    def reads(self) -> Contents:
        """No files but those of the task: what the drawings depend on beside this value."""
        return self.task().contents()

    def describe(self) -> str:
        return f"drawn {self.task().name} ({self.split}, {self.pictures} pictures, {self.size} px)"


class DrawnSource:
    """Images times questions; record ``i`` is question ``i % per_picture`` about image ``i // per_picture``."""

    def __init__(self, config: DrawnConfig) -> None:
        self._config, self._task, self._variants = config, config.task(), config.variants
        self._composed = lru_cache(maxsize=_SCENES_KEPT)(self._compose)
        self._task.compose(Random(0), config.split)  # what is missing is missed here, not at the first record

    def __len__(self) -> int:
        return self._config.pictures * self._config.per_picture

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number, nth = divmod(index, self._config.per_picture)
        scene, questions = self._composed(number)
        question, picture = questions[nth], self._picture(scene)
        config = self._config
        return Sample(
            id=f"{self._task.name}-{config.split}-{config.seed}-{number}-{nth}",
            messages=(Message("user", (ImagePart(0), question.text)), Message("assistant", (question.answer,))),
            images=(picture,),
            meta=meta(self._task, question, form="drawn", cluster=picture.digest),
        )

    def scene(self, number: int) -> Scene:
        """The scene of image ``number``."""
        return self._composed(number)[0]

    def pictures(self) -> Iterator[Picture]:
        """All images, in order, undrawn."""
        for number in range(self._config.pictures):
            yield self._picture(self.scene(number))

    def _compose(self, number: int) -> Composed:
        config = self._config
        return composed(
            self._task, self._variants, split=config.split, seed=config.seed, number=number, count=config.per_picture
        )

    def _picture(self, scene: Scene) -> DrawnPicture:
        key = hashlib.sha256(f"{DRAWING_VERSION}/{self._config.size}/{scene!r}".encode()).hexdigest()
        return DrawnPicture(key, partial(scene.draw, self._config.size), (self._config.size, self._config.size))


class DrawnWords(DrawnConfig):
    """Reading made-up words of 2 to 4 letters. Variants: word, first, last, length.

    Best blind guess: 10.7 % (word 0, first 2.6, last 7.5, length 32.5).
    """

    kind: Literal["drawn_words"] = "drawn_words"

    def task(self) -> Words:
        return Words()


class DrawnNumbers(DrawnConfig):
    """Reading numbers of 2 or 3 digits. Variants: number, first, last, length, parity.

    Best blind guess: 20.1 % (number 0, first 5.2, last 4.8, length 49.3, parity 41.4).
    """

    kind: Literal["drawn_numbers"] = "drawn_numbers"

    def task(self) -> Numbers:
        return Numbers()


class DrawnCharts(DrawnConfig):
    """Charts of real tables. Variants: extreme_colour, extreme_label, how_many, higher, value, label.

    Their texts want 128 pixels or more. Best blind guess: 15.6 % (extreme_colour 17.5, extreme_label 9.8, how_many
    25.5, higher 50.7, value 2.0, label 3.9).
    """

    kind: Literal["drawn_charts"] = "drawn_charts"

    def task(self) -> Charts:
        return Charts()


class DrawnCounts(DrawnConfig):
    """Counting shapes. Variants: both (of a colour and a form), form, colour, more.

    Best blind guess: 30.6 % (both 25.2, form 25.3, colour 26.2, more 49.2).
    """

    kind: Literal["drawn_counts"] = "drawn_counts"

    def task(self) -> Counts:
        return Counts()


class DrawnRelations(DrawnConfig):
    """Where shapes are. Variants: side, which_side, extreme, closer.

    Best blind guess: 41.4 % (side 48.6, which_side 51.4, extreme 17.8, closer 48.6).
    """

    kind: Literal["drawn_relations"] = "drawn_relations"

    def task(self) -> Relations:
        return Relations()


class DrawnAttributes(DrawnConfig):
    """What shapes are. Variants: colour, form, size, present.

    Best blind guess: 34.5 % (colour 15.9, form 21.2, size 51.1, present 49.9).
    """

    kind: Literal["drawn_attributes"] = "drawn_attributes"

    def task(self) -> Attributes:
        return Attributes()
