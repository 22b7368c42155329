"""Reading: a made-up word or a number, written once, in some font, colour pair, place and tilt.

Words and numbers themselves are split too: what is read in the test split was never written in the train split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from PIL import Image, ImageDraw

from ommatidia.data.synthetic.look import FONTS, RGB, fitting_font, ink_pairs
from ommatidia.data.synthetic.task import Group, Question, Split, Task, by_split, side

VOWELS = "AEIOU"
CONSONANTS = "BCDFGHJKLMNPRSTVWXYZ"
DIGITS = tuple("0123456789")
LETTERS = tuple(sorted(VOWELS + CONSONANTS))

Layout = tuple[float, float, int, float]
"""Where the free space goes (left, top: 0..1), the tilt in degrees, and the share of the image's width."""

LAYOUTS = by_split(
    (x, y, tilt, width)
    for x in (0.0, 0.5, 1.0)
    for y in (0.0, 0.25, 0.5, 0.75, 1.0)
    for tilt in (-10, -5, 0, 5, 10)
    for width in (0.6, 0.75, 0.9)
)


@dataclass(frozen=True, slots=True)
class Style:
    """How a text is written."""

    font: str
    ink: RGB
    paper: RGB
    layout: Layout

    @staticmethod
    def of(rng: Random, split: Split) -> Style:
        ink, paper = rng.choice(ink_pairs(split))
        return Style(rng.choice(FONTS[split]), ink, paper, rng.choice(LAYOUTS[split]))


def write(text: str, style: Style, size: int) -> Image.Image:
    """The text on a page of ``size`` x ``size`` pixels."""
    x, y, tilt, share = style.layout
    margin = max(2, size // 24)
    face = fitting_font(style.font, text, int(share * (size - 2 * margin)), int(0.45 * size))
    left, top, right, bottom = (int(edge) for edge in face.getbbox(text))
    mask = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), text, fill=255, font=face)
    if tilt:
        mask = mask.rotate(tilt, Image.Resampling.BICUBIC, expand=True)
    page = Image.new("RGB", (size, size), style.paper)
    free_x, free_y = size - mask.width - 2 * margin, size - mask.height - 2 * margin
    place = (margin + round(x * free_x), margin + round(y * free_y)) if min(free_x, free_y) >= 0 else (0, 0)
    page.paste(style.ink, place, mask)
    return page


@dataclass(frozen=True, slots=True)
class WordScene:
    """One written word of 2 to 4 upper-case letters."""

    word: str
    style: Style

    def draw(self, size: int) -> Image.Image:
        return write(self.word, self.style, size)

    def describe(self) -> str:
        return f"the word is {self.word}."

    def questions(self, rng: Random) -> list[Question]:
        asked = [
            Question("what word is written?", self.word, "word"),
            Question("what is the first letter?", self.word[0], "first", LETTERS),
            Question("what is the last letter?", self.word[-1], "last", LETTERS),
            Question("how many letters are there?", str(len(self.word)), "length", ("2", "3", "4")),
        ]
        rng.shuffle(asked)
        return asked


@dataclass(frozen=True, slots=True)
class NumberScene:
    """One written number of 2 or 3 digits."""

    number: int
    style: Style

    def draw(self, size: int) -> Image.Image:
        return write(str(self.number), self.style, size)

    def describe(self) -> str:
        return f"the number is {self.number}."

    def questions(self, rng: Random) -> list[Question]:
        text = str(self.number)
        parity = "odd" if self.number % 2 else "even"
        asked = [
            Question("what number is written?", text, "number"),
            Question("what is the first digit?", text[0], "first", DIGITS[1:]),
            Question("what is the last digit?", text[-1], "last", DIGITS),
            Question("how many digits are there?", str(len(text)), "length", ("2", "3")),
            Question("is the number even or odd?", parity, "parity", ("even", "odd")),
        ]
        rng.shuffle(asked)
        return asked


@dataclass(frozen=True, slots=True)
class Words(Task):
    """Reading pronounceable made-up words: vowels and consonants take turns, and any consonant may begin.

    Lengths are equally frequent, and so are the letters of a place that is a vowel's or a consonant's.
    """

    name: ClassVar[str] = "words"
    group: ClassVar[Group] = "ocr_chart"
    variants: ClassVar[Mapping[str, int]] = {"word": 1, "first": 1, "last": 1, "length": 1}

    def compose(self, rng: Random, split: Split) -> WordScene:
        length = rng.randint(2, 4)
        while True:
            vowel_first = rng.random() < len(VOWELS) / len(LETTERS)
            sets = (VOWELS, CONSONANTS) if vowel_first else (CONSONANTS, VOWELS)
            word = "".join(rng.choice(sets[place % 2]) for place in range(length))
            if side(word) == split:
                return WordScene(word, Style.of(rng, split))


@dataclass(frozen=True, slots=True)
class Numbers(Task):
    """Reading numbers of two or three digits, equally often."""

    name: ClassVar[str] = "numbers"
    group: ClassVar[Group] = "ocr_chart"
    variants: ClassVar[Mapping[str, int]] = {"number": 1, "first": 1, "last": 1, "length": 1, "parity": 1}

    def compose(self, rng: Random, split: Split) -> NumberScene:
        low, high = rng.choice(((10, 99), (100, 999)))
        while True:
            number = rng.randint(low, high)
            if side(number) == split:
                return NumberScene(number, Style.of(rng, split))
