"""Census: what a source holds, in counts that fit into memory however many records there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ommatidia.core.errors import DataError
from ommatidia.core.source import Looked

_ANSWERS = 100_000
"""Different answers that are counted; more, and the rarest are forgotten: counts are then lower bounds."""

_LONGEST_ANSWER = 80
"""Characters of an answer that is counted as one of the most common: longer ones hardly repeat."""


@dataclass
class Census:
    """Counts of one source."""

    records: int = 0
    unusable: int = 0
    pictures: Counter[int] = field(default_factory=Counter)
    """How many records have how many."""
    turns: Counter[int] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)
    """Between white space, of all turns together."""
    answer_words: Counter[int] = field(default_factory=Counter)
    short_sides: Counter[int] = field(default_factory=Counter)
    long_sides: Counter[int] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    forgotten: int = 0
    """No answer that is missing in ``answers`` came more often."""

    def add(self, looked: Looked, sizes: list[tuple[int, int]]) -> None:
        """Count one record and the (height, width) of its images."""
        self.records += 1
        if looked.faults:
            self.unusable += 1
            return
        texts = [message.text for message in looked.messages]
        answers = [message.text for message in looked.messages if message.role == "assistant"]
        self.pictures[len(looked.images)] += 1
        self.turns[len(texts)] += 1
        self.words[sum(len(text.split()) for text in texts)] += 1
        self.answer_words.update(len(answer.split()) for answer in answers)
        self.short_sides.update(min(size) for size in sizes)
        self.long_sides.update(max(size) for size in sizes)
        self.answers.update(answer.strip() for answer in answers if len(answer) <= _LONGEST_ANSWER)
        if len(self.answers) > 2 * _ANSWERS:
            kept = self.answers.most_common(_ANSWERS)
            self.forgotten += kept[-1][1]
            self.answers = Counter(dict(kept))

    def spreads(self) -> dict[str, Spread]:
        """Spreads of everything that is counted by number."""
        counted = {
            "pictures": self.pictures,
            "turns": self.turns,
            "words": self.words,
            "answer words": self.answer_words,
            "short side (px)": self.short_sides,
            "long side (px)": self.long_sides,
        }
        return {name: Spread.of(counts) for name, counts in counted.items() if counts}

    def to_dict(self) -> dict[str, Any]:
        spreads = {name: spread.to_dict() for name, spread in self.spreads().items()}
        common = dict(self.answers.most_common(20))
        return {"records": self.records, "unusable": self.unusable, "spreads": spreads, "answers": common}


@dataclass(frozen=True, slots=True)
class Spread:
    """Of whole numbers: least, percentiles (the least number with so many at or below it), most, mean."""

    least: int
    tenth: int
    median: int
    ninetieth: int
    most: int
    mean: float
    total: int

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Spread:
        ordered = sorted(counts)
        number = sum(counts.values())

        def at(percent: int) -> int:
            below = 0
            for value in ordered:
                below += counts[value]
                if 100 * below >= percent * number:
                    return value
            return ordered[-1]

        total = sum(value * count for value, count in counts.items())
        return cls(ordered[0], at(10), at(50), at(90), ordered[-1], total / number, total)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def sizes(looked: Looked) -> list[tuple[int, int]]:
    """(height, width) of the images whose headers can be read."""
    found = []
    for picture in looked.images:
        try:
            found.append(picture.size())
        except DataError:
            continue
    return found
