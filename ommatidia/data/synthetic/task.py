"""Task, Scene, Question: what a drawn task is. A scene can be drawn or described; the questions are the same."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal, Protocol, TypeVar

from PIL.Image import Image

from ommatidia.core.contents import Contents

Split = Literal["train", "test"]
Group = Literal["general", "knowledge", "ocr_chart", "vision_centric"]

DRAWING_VERSION = 1
"""Part of every digest of a drawing. Raise it with any change that alters a pixel, a question or an answer."""

_TEST_SHARE = 4
"""One in so many hashed values belongs to the test split."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a scene and its one right answer."""

    text: str
    answer: str
    variant: str
    """Which of the task's question variants it is."""
    options: tuple[str, ...] = ()
    """All answers that such a question can have, where they are a closed set."""
    fact: str = ""
    """What a description must add for this question to be answerable; empty when the scene's own says it all."""


class Scene(Protocol):
    """What is to be seen: a frozen dataclass, so that its ``repr`` identifies it."""

    def draw(self, size: int) -> Image:
        """An RGB drawing of ``size`` x ``size`` pixels; a pure function of the scene and the size."""
        ...

    def describe(self) -> str:
        """The scene in words, everything the questions need and nothing about style."""
        ...

    def questions(self, rng: Random) -> list[Question]:
        """Distinct questions in random order, at least as many of each variant as the task promises."""
        ...


class Task(ABC):
    """One drawn task: composes scenes from random numbers, with fonts, colours and layouts that belong to one split."""

    name: ClassVar[str]
    group: ClassVar[Group]
    variants: ClassVar[Mapping[str, int]]
    """Question variants, and how many questions of each every scene has at least."""

    @abstractmethod
    def compose(self, rng: Random, split: Split) -> Scene:
        """A scene of the split; depends on nothing but the random numbers and the task's own fields."""

    def contents(self) -> Contents:
        """What else the scenes depend on: how they are drawn, data files."""
        return Contents.of([(f"drawing of {self.name}", None, str(DRAWING_VERSION))])


def side(value: object) -> Split:
    """The split a value belongs to for good, chosen by its hash."""
    return "test" if hashlib.sha256(repr(value).encode()).digest()[0] % _TEST_SHARE == 0 else "train"


def by_split(values: Iterable[V]) -> dict[Split, tuple[V, ...]]:
    """The values that belong to each split, in their order."""
    held: dict[Split, list[V]] = {"train": [], "test": []}
    for value in values:
        held[side(value)].append(value)
    return {split: tuple(mine) for split, mine in held.items()}


def select(questions: list[Question], variants: tuple[str, ...], count: int) -> list[Question]:
    """``count`` of the questions of these variants, going round the variants so that none crowds out another."""
    queues = {variant: [q for q in questions if q.variant == variant] for variant in variants}
    order = sorted(queues, key=lambda v: next((i for i, q in enumerate(questions) if q.variant == v), len(questions)))
    chosen: list[Question] = []
    while len(chosen) < count:
        chosen += [queues[variant].pop(0) for variant in order if queues[variant]]
    return chosen[:count]
