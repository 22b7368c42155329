"""Tiny real parts for the tests of eval: an image, a source and answerers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from ommatidia.core.errors import DataError
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import ImagePart, Message, Sample
from ommatidia.eval import Benchmark, SourceBenchmark


@dataclass(frozen=True)
class Dot:
    """A one-coloured image of ``colour`` x 10 columns."""

    colour: int

    @property
    def digest(self) -> str:
        return f"dot-{self.colour}"

    def size(self) -> tuple[int, int]:
        return 3, 10 * self.colour + 1

    def open(self) -> Image.Image:
        return Image.new("RGB", (10 * self.colour + 1, 3), (self.colour, 0, 0))


def sample_of(number: int, *, answer: str | None = None, picture: int | None = None, **meta: object) -> Sample:
    """A question on a dot; without ``picture`` a question in words alone."""
    image = () if picture is None else (ImagePart(0), "\n")
    turns = (
        Message("user", (*image, f"How much is {'one and ' * (number % 5)}{number}?")),
        Message("assistant", (str(number) if answer is None else answer,)),
    )
    return Sample(f"q{number}", turns, () if picture is None else (Dot(picture),), meta)


class CountingSource(SourceConfig):
    """``size`` questions, two on each image; the listed positions are unreadable."""

    kind: Literal["test_counting"] = "test_counting"
    size: int = 20
    broken: tuple[int, ...] = ()
    twice: bool = False
    salt: str = ""

    def open(self) -> CountingSource:
        return self

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise DataError("the image is missing")
        if self.twice and index == self.size - 1:
            index = 0
        sample = sample_of(index, picture=index // 2 + 1, task=f"parity {index % 2}")
        if self.salt:
            first, last = sample.messages
            sample = Sample(sample.id, (Message("user", (*first.parts, self.salt)), last), sample.images, sample.meta)
        return sample


def benchmark_of(source: CountingSource | None = None, **fields: object) -> Benchmark:
    source = CountingSource() if source is None else source
    values = {"name": "counting", "group": "general", "source": source, "scorer": "exact"}
    return SourceBenchmark(**{**values, **fields}).open()


class Oracle:
    """Answers from the question's last word, and remembers what it was asked."""

    def __init__(self, change: Callable[[int, str], str] = lambda call, answer: answer) -> None:
        self.asked: list[list[str]] = []
        self.change = change

    def __call__(self, prompts: Sequence[Sample]) -> list[str]:
        self.asked.append([prompt.id for prompt in prompts])
        call = len(self.asked)
        return [self.change(call, prompt.question.split("?")[0].split()[-1]) for prompt in prompts]

    @property
    def ids(self) -> list[str]:
        return [name for batch in self.asked for name in batch]
