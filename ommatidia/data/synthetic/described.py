"""Described scenes: the drawn tasks without images, for a language model to learn questions and answers from."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Message, Sample
from ommatidia.data.synthetic.attributes import Attributes
from ommatidia.data.synthetic.charts import Charts
from ommatidia.data.synthetic.counts import Counts
from ommatidia.data.synthetic.drawn import Composed, check_variants, composed, meta
from ommatidia.data.synthetic.relations import Relations
from ommatidia.data.synthetic.single_shape import SingleShapes
from ommatidia.data.synthetic.task import Split, Task
from ommatidia.data.synthetic.written import Numbers, Words

TASKS: tuple[Task, ...] = (Words(), Numbers(), Charts(), Counts(), Relations(), Attributes(), SingleShapes())
TASK_NAMES = tuple(task.name for task in TASKS)

_SCENES_KEPT = 256


class DescribedScenes(SourceConfig):
    """Text only: scenes of the drawn tasks, and of easy-VQA, in words, with the same questions and answers.

    Every closed-set answer and every letter and digit of the drawn tasks occurs from about 200 scenes a task on.
    """

    kind: Literal["described_scenes"] = "described_scenes"
    split: Split = "train"
    tasks: tuple[str, ...] = TASK_NAMES
    """Scenes take turns among them: words, numbers, charts, counts, relations, attributes, easy_vqa."""
    pictures: Annotated[int, Field(ge=1)] = 1000
    """Scenes in all."""
    per_picture: Annotated[int, Field(ge=1)] = 4
    """Questions about each scene, each a sample that begins with the scene's description."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.tasks:
            raise ConfigError(f"tasks is empty; name at least one of {', '.join(TASK_NAMES)}")
        for name in self.tasks:
            if name not in TASK_NAMES:
                raise ConfigError(unknown("task", name, TASK_NAMES))
        for task in self._tasks():
            check_variants(task, tuple(task.variants), self.per_picture)
        return self

    def _tasks(self) -> tuple[Task, ...]:
        by_name = {task.name: task for task in TASKS}
        return tuple(by_name[name] for name in self.tasks)

    def open(self) -> DescribedSource:
        """Raises ConfigError when the package that the charts' tables come from is missing."""
        return DescribedSource(self, self._tasks())

    def reads(self) -> Contents:
        return Contents.joined(task.contents() for task in self._tasks())

    def describe(self) -> str:
        return f"described scenes ({self.split}, {self.pictures} scenes: {', '.join(self.tasks)})"


class DescribedSource:
    """Scenes times questions, in the order of the drawn sources; no images."""

    def __init__(self, config: DescribedScenes, tasks: tuple[Task, ...]) -> None:
        self._config, self._tasks = config, tasks
        self._composed = lru_cache(maxsize=_SCENES_KEPT)(self._compose)
        for number in range(min(len(tasks), config.pictures)):
            self._composed(number)  # what is missing is missed here, not at the first record

    def __len__(self) -> int:
        return self._config.pictures * self._config.per_picture

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number, nth = divmod(index, self._config.per_picture)
        task, (scene, questions) = self._task(number), self._composed(number)
        question = questions[nth]
        words = " ".join(part for part in (scene.describe(), question.fact, question.text) if part)
        cluster = hashlib.sha256(f"described/{scene!r}".encode()).hexdigest()
        return Sample(
            id=f"described-{task.name}-{self._config.split}-{self._config.seed}-{number}-{nth}",
            messages=(Message("user", (words,)), Message("assistant", (question.answer,))),
            meta=meta(task, question, form="described", cluster=cluster),
        )

    def _task(self, number: int) -> Task:
        return self._tasks[number % len(self._tasks)]

    def _compose(self, number: int) -> Composed:
        config, task = self._config, self._task(number)
        # A seed of its own: the scenes told here are not the scenes that a drawn source with the same seed shows.
        return composed(
            task,
            tuple(task.variants),
            split=config.split,
            seed=config.seed + 1_000_003,
            number=number,
            count=config.per_picture,
        )
