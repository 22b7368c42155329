"""Processor: Sample to Example. The same object trains, evaluates and serves, so the three cannot drift apart.

Shapes: K views of a sample, C colour channels, H rows, W columns, D feature channels, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Batch, Example, ImagePart, Picture, Sample
from ommatidia.models.mllm import MLLMConfig

FeatureLookup = Callable[[str], Tensor]
"""From a picture's digest to its stored trunk features x_HWD. Raises RunError when the picture was not stored."""


class Processor:
    """Renders the dialogue, places the visual tokens, and prepares each picture once for every encoder."""

    def __init__(self, config: MLLMConfig, *, features: Mapping[str, FeatureLookup] | None = None) -> None:
        self.config = config
        self.tokenizer = config.language.tokenizer()
        self.chat = config.chat
        self.end_id = self.tokenizer.id_of(config.chat.end) if config.chat.end.strip() else None
        self.tokens_per_view = config.tokens_per_view
        self.context = config.language.shape().context
        self.features = dict(features or {})
        if strangers := set(self.features) - set(config.encoders):
            raise ConfigError(f"stored features for {sorted(strangers)}, which are no encoders of this model")
        self.preprocess = {n: e.preprocess() for n, e in config.encoders.items() if n not in self.features}
        self._encode = lru_cache(maxsize=2**16)(self._encode_uncached)

    def _encode_uncached(self, text: str, special: bool) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, special=special))

    def __call__(self, sample: Sample, *, answer: bool = True) -> Example:
        """The sample as numbers; with ``answer=False`` the prompt up to where the model should speak.

        Raises DataError: an image that cannot be read, a place without its image, a text longer than the context.
        """
        try:
            ids, labels, places = self._render(sample, answer=answer)
            if len(ids) > self.context:
                raise DataError(f"{len(ids)} tokens, but the context of the language model holds {self.context}")
            pictures = [sample.images[place.index] for place in places] if self.config.encoders else []
            pixels, features = self._see(pictures)
        except DataError as error:
            raise error.at(sample=sample.id) from None
        return Example(sample.id, torch.tensor(ids), torch.tensor(labels), pixels, features, len(pictures))

    def _render(self, sample: Sample, *, answer: bool) -> tuple[list[int], list[int], list[ImagePart]]:
        ids: list[int] = []
        labels: list[int] = []
        places: list[ImagePart] = []
        for segment in self.chat.render(sample.messages, answer=answer):
            if isinstance(segment, ImagePart):
                if not 0 <= segment.index < len(sample.images):
                    raise DataError(f"a place for image {segment.index}, but the sample has {len(sample.images)}")
                places.append(segment)
                ids += [IMAGE_TOKEN_ID] * self.tokens_per_view
                labels += [IGNORE_LABEL] * self.tokens_per_view
            else:
                new = self._encode(segment.text, segment.template)
                ids += new
                labels += new if segment.supervised else [IGNORE_LABEL] * len(new)
        return ids, labels, places

    def _see(self, pictures: Sequence[Picture]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pixels K_C_H_W and stored features K_H_W_D per encoder; a picture is decoded once, and only if it must be."""
        if not pictures:
            return {}, {}
        features = {name: torch.stack([look(p.digest) for p in pictures]) for name, look in self.features.items()}
        if not self.preprocess:
            return {}, features
        images = [picture.open() for picture in pictures]
        pixels = {name: torch.stack([prepare(i) for i in images]) for name, prepare in self.preprocess.items()}
        return pixels, features

    def collate(self, examples: Sequence[Example], *, left: bool = False) -> Batch:
        """Pad to the longest. Padding stands on the right for training, on the left for generation."""
        longest = max(len(example.ids) for example in examples)
        size = (len(examples), longest)
        ids_BT = torch.full(size, self.tokenizer.pad_id)
        labels_BT = torch.full(size, IGNORE_LABEL)
        mask_BT = torch.zeros(size, dtype=torch.bool)
        for row, example in enumerate(examples):
            n = len(example.ids)
            span = slice(longest - n, longest) if left else slice(0, n)
            ids_BT[row, span], labels_BT[row, span], mask_BT[row, span] = example.ids, example.labels, True
        views = sum(example.views for example in examples)
        return Batch(
            tuple(example.id for example in examples),
            ids_BT,
            labels_BT,
            mask_BT,
            _joined([example.pixels for example in examples]),
            _joined([example.features for example in examples]),
            views,
        )


def _joined(maps: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Views of all rows one after another, per encoder, in row order; rows without a picture bring none."""
    names = dict.fromkeys(name for one in maps for name in one)
    return {name: torch.cat([one[name] for one in maps if name in one]).float() for name in names}
