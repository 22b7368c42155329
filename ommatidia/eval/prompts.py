"""What an answerer may see of a sample: the question without its answer, with, without or with false images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ommatidia.core.config import digest
from ommatidia.core.errors import DataError
from ommatidia.core.types import ImagePart, Message, Part, Picture, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["full", "blind", "blank", "shuffled"]
"""full: as it is. blind: no images at all. blank: each image mid-gray. shuffled: the images of another sample."""

MODES: tuple[Mode, ...] = ("full", "blind", "blank", "shuffled")


def prompt_of(sample: Sample, *, mode: Mode = "full", suffix: str = "", other: Sequence[Picture] = ()) -> Sample:
    """The sample as a question: no closing assistant turn, no meta, ``suffix`` after the last user turn.

    ``other`` holds the images that stand in where ``mode`` is "shuffled".

    Raises:
        DataError: no user turn is left to answer, or the reference answer holds an image.
    """
    messages = sample.messages
    if messages and messages[-1].role == "assistant":
        if any(isinstance(part, ImagePart) for part in messages[-1].parts):
            raise DataError("the reference answer holds an image", sample=sample.id)
        messages = messages[:-1]
    if not messages or messages[-1].role != "user":
        raise DataError("no question: expected a user turn before the answer", sample=sample.id)
    messages = (*messages[:-1], _with_suffix(messages[-1], suffix))
    images = sample.images
    if mode == "blind":
        messages, images = tuple(m for m in map(without_pictures, messages) if m.parts), ()
        if not messages or messages[-1].role != "user":
            raise DataError("without its images the question is empty", sample=sample.id)
    elif mode == "blank":
        images = tuple(BlankPicture(picture) for picture in images)
    elif mode == "shuffled":
        images = tuple(other)
    # Meta holds references, options and hidden descriptions: an answerer sees none of it.
    return Sample(id=sample.id, messages=messages, images=images)


def prompt_digest(prompt: Sample, *, mode: Mode, max_new_tokens: int) -> str:
    """Identifies what was asked, images aside (their digests stand beside it)."""
    turns = [[m.role, [part if isinstance(part, str) else part.index for part in m.parts]] for m in prompt.messages]
    return digest([turns, mode, max_new_tokens])


def _with_suffix(message: Message, suffix: str) -> Message:
    if not suffix:
        return message
    parts = message.parts
    if parts and isinstance(parts[-1], str):
        return replace(message, parts=(*parts[:-1], parts[-1] + suffix))
    return replace(message, parts=(*parts, suffix))


def worded(message: Message) -> Message:
    """An answer as it is shown in an example: its words. Raises DataError where it holds an image."""
    if any(isinstance(part, ImagePart) for part in message.parts):
        raise DataError("the reference answer holds an image")
    return message


def without_pictures(message: Message) -> Message:
    """Only the words, joined; the line break that stood between a leading image and its question goes too."""
    if all(isinstance(part, str) for part in message.parts):
        return message
    text = message.text.strip()
    parts: tuple[Part, ...] = (text,) if text else ()
    return replace(message, parts=parts)


@dataclass(frozen=True, slots=True)
class BlankPicture:
    """A mid-gray image of another image's size."""

    original: Picture

    @property
    def digest(self) -> str:
        return digest(["blank", self.original.digest])

    def size(self) -> tuple[int, int]:
        return self.original.size()

    def open(self) -> Image:
        from PIL import Image

        height, width = self.original.size()
        return Image.new("RGB", (width, height), (128, 128, 128))


def exchange(pictures: Mapping[str, tuple[Picture, ...]], *, seed: int = 0) -> dict[str, tuple[Picture, ...]]:
    """Every sample's images replaced by another's, by sample id; a pure function of content and seed.

    Distinct sets of images of one size form a random cycle and each moves one place on, so that no sample keeps its
    images and questions on one image still share one. Raises DataError when a set is the only one of its size.
    """
    content = {sample: tuple(picture.digest for picture in images) for sample, images in pictures.items() if images}
    sets = {content[sample]: images for sample, images in pictures.items() if images}
    moved: dict[tuple[str, ...], tuple[Picture, ...]] = {}
    for size in sorted({len(key) for key in sets}):
        keys = sorted(key for key in sets if len(key) == size)
        if len(keys) == 1:
            raise DataError(f"cannot shuffle images: only one distinct set of {size}")
        cycle = [keys[i] for i in np.random.default_rng([seed, size]).permutation(len(keys))]
        moved |= {key: sets[cycle[(place + 1) % len(cycle)]] for place, key in enumerate(cycle)}
    return {sample: moved[content[sample]] if images else () for sample, images in pictures.items()}
