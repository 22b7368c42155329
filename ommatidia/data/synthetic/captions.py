"""Captions: the drawn images with a description to give instead of a question to answer, one sample an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import model_validator

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.source import Source
from ommatidia.core.types import ImagePart, Message, Picture, Sample
from ommatidia.data.synthetic.described import TASKS
from ommatidia.data.synthetic.drawn import DrawnConfig, DrawnSource
from ommatidia.data.synthetic.task import Task

_ASKS = ("describe the image.", "what is in the image?", "what do you see?", "describe this picture.")
_NOT_DRAWN = ("easy_vqa",)


class DrawnCaptions(DrawnConfig):
    """Images of one drawn task, each with its scene in words."""

    kind: Literal["scene_captions"] = "scene_captions"
    scenes: str = "attributes"
    """Whose scenes: words, numbers, charts, counts, relations, attributes."""
    per_picture: Literal[1] = 1

    @model_validator(mode="after")
    def _known(self) -> DrawnCaptions:
        self.task()
        return self

    def task(self) -> Task:
        """Raises ConfigError for a task that is not drawn."""
        drawn = {task.name: task for task in TASKS if task.name not in _NOT_DRAWN}
        if self.scenes not in drawn:
            raise ConfigError(unknown("drawn task", self.scenes, drawn))
        return drawn[self.scenes]

    def open(self) -> Source:
        return CaptionSource(self)

    def describe(self) -> str:
        return f"captions of drawn {self.scenes} ({self.split}, {self.pictures} pictures)"


class CaptionSource:
    """Record ``i`` describes image ``i``."""

    def __init__(self, config: DrawnCaptions) -> None:
        self._drawn = DrawnSource(config)

    def __len__(self) -> int:
        return len(self._drawn)

    def __getitem__(self, index: int) -> Sample:
        sample = self._drawn[index]
        words = self._drawn.scene(index).describe()
        ask = _ASKS[index % len(_ASKS)]
        messages = (Message("user", (ImagePart(0), ask)), Message("assistant", (words[:1].upper() + words[1:],)))
        return Sample(f"caption-{sample.id}", messages, sample.images, {**sample.meta, "task": "caption"})

    def pictures(self) -> Iterator[Picture]:
        """All images, in order, undrawn."""
        return self._drawn.pictures()
