"""Shared features: the trunks look at an image once, however many questions are asked about it.

Shapes: K views, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor

from ommatidia.core.errors import DataError
from ommatidia.core.types import Batch, Picture, Sample
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.models.vision.encoder import VisionEncoder

CAPACITY = 2**30
"""Bytes of features that are kept for later questions."""


@dataclass(slots=True)
class _Kept:
    """What was seen, by the digest of the image and the name of the encoder, the longest unused first."""

    maps: OrderedDict[str, dict[str, Tensor]] = field(default_factory=OrderedDict)
    looked: int = 0


class SharedFeatures:
    """Answers like ``generate``, but keeps every image's trunk features by its digest.

    Necks, fusion and projector run for each question, so a fusion may read the question. An encoder that the fusion
    steers by another has no features of its own and goes on seeing pixels; one whose features ``processor`` looks up
    is not seen again. What the questions of one batch need is always kept; beyond that the longest unused goes when
    ``capacity`` bytes are exceeded.
    """

    def __init__(self, model: MLLM, processor: Processor, *, batch: int = 64, capacity: int = CAPACITY) -> None:
        config = processor.config
        away = config.fusion.steered(tuple(config.encoders)) | set(processor.features)
        self.names = tuple(n for n in config.encoders if n not in away)
        self.model, self.batch, self.capacity = model, batch, capacity
        self.plain = processor
        """The processor as it was given."""
        self.processor = processor.through({name: partial(self._look, name) for name in self.names})
        self._kept = _Kept()

    def again(self, model: MLLM, processor: Processor) -> SharedFeatures:
        """The same images for another question: ``model`` has the same trunks, and what one saw the other keeps."""
        other = SharedFeatures(model, processor, batch=self.batch, capacity=self.capacity)
        other._kept = self._kept
        return other

    @property
    def looked(self) -> int:
        """Images that the trunks have seen."""
        return self._kept.looked

    def answer(self, samples: Sequence[Sample], decoding: Decoding) -> list[str]:
        """One answer a sample, in order. Raises DataError with the sample's id."""
        order = sorted(range(len(samples)), key=lambda i: (len(samples[i].images), _letters(samples[i])))
        answers = [""] * len(samples)
        for start in range(0, len(order), self.batch):
            group = order[start : start + self.batch]
            chosen = [samples[i] for i in group]
            self._see(chosen)
            for i, text in zip(group, generate(self.model, self.processor, chosen, decoding, batch=self.batch)):
                answers[i] = text
        return answers

    def inputs(self, samples: Sequence[Sample]) -> Iterator[Batch]:
        """The samples as inputs of the model, in order, ``batch`` at a time. Raises DataError with the sample's id."""
        for start in range(0, len(samples), self.batch):
            chosen = samples[start : start + self.batch]
            self._see(chosen)
            yield self.processor.collate([self.processor(sample, answer=False) for sample in chosen])

    def _look(self, name: str, picture: str) -> Tensor:
        return self._kept.maps[picture][name]

    @torch.inference_mode()
    def _see(self, samples: Sequence[Sample]) -> None:
        """Make sure that the features of these samples' images are held."""
        if not self.names:
            return
        kept, needed = self._kept.maps, dict[str, tuple[Picture, str]]()
        for sample in samples:
            for picture in self.plain.images_of(sample):
                try:
                    needed.setdefault(picture.digest, (picture, sample.id))
                except DataError as error:
                    raise error.at(sample=sample.id) from None
        missing = [
            (digest, *told) for digest, told in needed.items() if not set(self.names) <= set(kept.get(digest, ()))
        ]
        for start in range(0, len(missing), self.batch):
            for digest, features in self._features(missing[start : start + self.batch]):
                kept.setdefault(digest, {}).update(features)
                self._kept.looked += 1
        for digest in needed:
            kept.move_to_end(digest)
        while len(kept) > len(needed) and _size(kept.values()) > self.capacity:
            kept.popitem(last=False)

    def _features(self, pictures: Sequence[tuple[str, Picture, str]]) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """x_KHWD of every encoder for each image; the images pass each trunk together."""
        device = next(self.model.parameters()).device
        pixels: list[Mapping[str, Tensor]] = []
        for _, picture, sample in pictures:
            try:
                pixels.append(self.plain.see([picture])[0])
            except DataError as error:
                raise error.at(sample=sample) from None
        seen: dict[str, Sequence[Tensor]] = {}
        for name in self.names:
            encoder = cast(VisionEncoder, self.model.encoders[name])
            pixels_KCHW = torch.cat([one[name] for one in pixels]).float().to(device)
            seen[name] = encoder.features(pixels_KCHW).split([len(one[name]) for one in pixels])
        for number, (digest, _, _) in enumerate(pictures):
            yield digest, {name: maps[number].clone() for name, maps in seen.items()}


def _letters(sample: Sample) -> int:
    return sum(len(message.text) for message in sample.messages)


def _size(held: Iterable[Mapping[str, Tensor]]) -> int:
    return sum(x_KHWD.element_size() * x_KHWD.nelement() for maps in held for x_KHWD in maps.values())
