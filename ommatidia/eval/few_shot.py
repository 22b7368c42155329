"""Few-shot: solved examples before the question, as turns of the dialogue with their images in place.

Flamingo's zero-shot is two examples without their images before a question that keeps its own
(``FewShot(shots=2, pictures=False)``); MM1, VILA and the others report 4 and 8 with images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from ommatidia.core.config import Config
from ommatidia.core.errors import DataError
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import ImagePart, Message, Picture, Sample
from ommatidia.eval.prompts import prompt_of, without_pictures, worded


class FewShot(Config):
    """Which solved examples stand before each question; a pure function of ``seed`` and the question's id."""

    shots: int = Field(ge=1, le=64)
    split: str = "train"
    """Of the same benchmark or source; may be the one that is asked: a question never shows itself or its images."""
    source: SourceConfig | None = None
    """Another source of examples, in place of ``split``."""
    seed: int = Field(default=0, ge=0)
    support: int = Field(default=2048, ge=1)
    """Examples are drawn from so many records, themselves drawn once by ``seed``."""
    pictures: bool = True
    """False leaves the examples' words alone, as Flamingo does for what it calls zero-shot."""

    def describe(self) -> str:
        """The part of a result's name that says so."""
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{self.shots}-shot{'' if self.pictures else '-text'}{seed}"


class Demonstrations:
    """Draws the examples of every question from an opened pool."""

    def __init__(self, config: FewShot, pool: Sequence[Sample], *, suffix: str = "") -> None:
        self.config, self.pool, self.suffix = config, pool, suffix
        order = np.random.default_rng([config.seed, 0]).permutation(len(pool))
        self._support = [int(position) for position in order[: config.support]]
        self._read: dict[int, Sample] = {}

    def before(self, sample: Sample, *, own: str) -> tuple[Sample, ...]:
        """The examples for one question, whose id in the data is ``own``, in the order they are shown.

        Raises DataError when the pool does not hold enough that share neither id nor image with the question.
        """
        pictures = {picture.digest for picture in sample.images}
        chance = np.random.default_rng([self.config.seed, 1, *sample.id.encode()])
        chosen: list[Sample] = []
        for place in chance.permutation(len(self._support)):
            example = self._example(self._support[place])
            if example.id == own or pictures & {picture.digest for picture in example.images}:
                continue
            chosen.append(example)
            if len(chosen) == self.config.shots:
                return tuple(chosen)
        raise DataError(
            f"{len(chosen)} of {self.config.shots} examples: the {len(self._support)} records to draw from hold no "
            "more that share no picture with the question",
            sample=sample.id,
        )

    def _example(self, position: int) -> Sample:
        if position not in self._read:
            example = self.pool[position]
            if not example.answer or example.messages[-1].role != "assistant":
                raise DataError("an example without an answer", sample=example.id)
            self._read[position] = example
        return self._read[position]

    def prepend(self, sample: Sample, ask: Callable[[Sample], Sample], *, own: str) -> Sample:
        """The question that ``ask`` makes of ``sample``, behind its examples. ``own``: the sample's id in the data."""
        turns: list[Message] = []
        pictures: list[Picture] = []
        for example in self.before(sample, own=own):
            question = prompt_of(example, suffix=self.suffix)
            shown = question.messages if self.config.pictures else tuple(map(without_pictures, question.messages))
            turns += [_moved(message, len(pictures)) for message in (*shown, worded(example.messages[-1]))]
            pictures += question.images if self.config.pictures else ()
        query = ask(sample)
        turns += [_moved(message, len(pictures)) for message in query.messages]
        return replace(query, messages=tuple(turns), images=(*pictures, *query.images))


def _moved(message: Message, by: int) -> Message:
    parts = tuple(ImagePart(part.index + by) if isinstance(part, ImagePart) else part for part in message.parts)
    return replace(message, parts=parts)
