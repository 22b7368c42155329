"""One shape in one colour, asked about in the words of easy-VQA; described only, for easy-VQA has images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from PIL.Image import Image

from ommatidia.core.errors import ConfigError
from ommatidia.data.synthetic.task import Group, Question, Split, Task

FORMS = ("circle", "rectangle", "triangle")
HUES = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")

_YES_NO = ("yes", "no")
_POSITIVE = ("does the image contain a {}?", "is a {} present?", "is there a {}?", "is there a {} in the image?")
_NEGATIVE = (
    "does the image not contain a {}?", "is no {} present?", "is there not a {}?", "is there not a {} in the image?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SingleShape:
    """A coloured shape."""

    form: str
    hue: str

    def draw(self, size: int) -> Image:
        raise ConfigError(
            "easy_vqa scenes are described here, not drawn; the source of kind 'easy_vqa' has the pictures"
        )

    def describe(self) -> str:
        return f"there is a {self.hue} {self.form}."

    def questions(self, rng: Random) -> list[Question]:
        of_hue = (
            "what color is the shape?",
            "what color is the {}?",
            "what is the color of the shape?",
            "what is the color of the {}?",
        )
        of_form = (
            "what is the {} shape?",
            "what shape is in the image?",
            "what shape is present?",
            "what shape does the image contain?",
        )
        asked = [Question(text.format(self.form), self.hue, "colour", HUES) for text in rng.sample(of_hue, 2)]
        asked += [Question(text.format(self.hue), self.form, "form", FORMS) for text in rng.sample(of_form, 2)]
        for templates, right, wrong in ((_POSITIVE, "yes", "no"), (_NEGATIVE, "no", "yes")):
            # Present and absent things are asked about equally often, so that no wording gives the answer away.
            for template, present in zip(rng.sample(templates, 2), rng.sample((True, False), 2), strict=True):
                thing = self._thing(rng, present=present)
                asked.append(Question(template.format(thing), right if present else wrong, "present", _YES_NO))
        rng.shuffle(asked)
        return asked

    def _thing(self, rng: Random, *, present: bool) -> str:
        if rng.random() < 0.5:
            return self.form if present else rng.choice([form for form in FORMS if form != self.form])
        hue = self.hue if present else rng.choice([hue for hue in HUES if hue != self.hue])
        return f"{hue} shape"


@dataclass(frozen=True, slots=True)
class SingleShapes(Task):
    """The scenes of easy-VQA in words. Its 24 scenes are too few to split: both splits show them all."""

    name: ClassVar[str] = "easy_vqa"
    group: ClassVar[Group] = "general"
    variants: ClassVar[Mapping[str, int]] = {"colour": 2, "form": 2, "present": 4}

    def compose(self, rng: Random, split: Split) -> SingleShape:
        return SingleShape(rng.choice(FORMS), rng.choice(HUES))
