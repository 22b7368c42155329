"""Processor: Sample to Example. The same object trains, evaluates and serves, so the three cannot drift apart.

Shapes: K views of a sample, C colour channels, H rows, W columns, D feature channels, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import (
    IGNORE_LABEL,
    IMAGE_TOKEN_ID,
    ROW_END,
    Batch,
    Example,
    ImagePart,
    Picture,
    Sample,
    View,
    Views,
)
from ommatidia.models.injection import Attends
from ommatidia.models.language import Segment
from ommatidia.models.mllm import MLLMConfig
from ommatidia.models.vision.tiling import Mark

FeatureLookup = Callable[[str], Tensor]
"""From a picture's digest to its stored trunk features x_HWD. Raises RunError when the picture was not stored."""


@dataclass(slots=True)
class _Row:
    """One sample while it is being written down."""

    attends: Attends
    """Which pictures a position behind several may look at, where layers inside the decoder look at all."""
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)
    sees: list[tuple[int, int]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    window: tuple[int, int] = (0, 0)

    def _write(self, ids: Sequence[int], *, supervised: bool, asked: bool, sees: tuple[int, int]) -> None:
        self.ids += ids
        self.labels += ids if supervised else [IGNORE_LABEL] * len(ids)
        self.asked += [asked] * len(ids)
        self.sees += [sees] * len(ids)

    def speak(self, ids: Sequence[int], segment: Segment) -> None:
        self._write(ids, supervised=segment.supervised, asked=segment.asked, sees=self.window)

    def mark(self, ids: Sequence[int], view: int | None) -> None:
        """A mark looks at the view it announces, or at what the text before it sees."""
        self._write(ids, supervised=False, asked=False, sees=self.window if view is None else (view, view + 1))

    def place(self, numbers: Sequence[int]) -> None:
        self.places += numbers
        self._write([IMAGE_TOKEN_ID] * len(numbers), supervised=False, asked=False, sees=self.window)

    def end_picture(self, picture: Picture, views: Sequence[View]) -> None:
        first = len(self.views)
        self.views += [replace(view, picture=len(self.pictures)) for view in views]
        self.pictures.append(picture)
        self.window = (first if self.attends == "last" else 0, len(self.views))


class Processor:
    """Renders the dialogue, places the visual tokens, and prepares each picture once for every encoder."""

    def __init__(self, config: MLLMConfig, *, features: Mapping[str, FeatureLookup] | None = None) -> None:
        self.config = config
        self.tokenizer = config.language.tokenizer()
        self.chat = config.chat
        self.end_id = self.tokenizer.id_of(config.chat.end) if config.chat.end.strip() else None
        grid = config.visual_grid()
        self.tokens_per_view = 0 if grid is None else grid.tokens
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
            row = self._render(sample, answer=answer)
            if len(row.ids) > self.context:
                raise DataError(f"{len(row.ids)} tokens, but the context of the language model holds {self.context}")
            pixels, features = self._see(row.pictures)
        except DataError as error:
            raise error.at(sample=sample.id) from None
        return Example(
            sample.id,
            torch.tensor(row.ids),
            torch.tensor(row.labels),
            pixels,
            features,
            tuple(row.views),
            torch.tensor(row.places) if row.views else None,
            torch.tensor(row.asked),
            torch.tensor(row.sees) if row.views and self.config.injection.attends != "none" else None,
        )

    def _render(self, sample: Sample, *, answer: bool) -> _Row:
        row = _Row(self.config.injection.attends)
        for segment in self.chat.render(sample.messages, answer=answer):
            if isinstance(segment, ImagePart):
                if not 0 <= segment.index < len(sample.images):
                    raise DataError(f"a place for image {segment.index}, but the sample has {len(sample.images)}")
                if self.config.encoders:
                    self._look(row, sample.images[segment.index])
            else:
                row.speak(self._encode(segment.text, segment.template), segment)
        return row

    def _look(self, row: _Row, picture: Picture) -> None:
        """One picture: its views, and what of it stands in the text."""
        height, width = picture.size()
        views = self.config.tiling.views(height, width)
        first, per_view = len(row.views), self.tokens_per_view
        for piece in self.config.script(height, width):
            if isinstance(piece, Mark):
                row.mark(self._encode(piece.text, False), None if piece.view is None else first + piece.view)
            else:
                row.place([n if n == ROW_END else n + first * per_view for n in piece.numbers])
        row.end_picture(picture, views)

    def _see(self, pictures: Sequence[Picture]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pixels K_C_H_W and stored features K_H_W_D per encoder; a picture is decoded once, and only if it must be.

        Encoders with equal transforms share one tensor.
        """
        if not pictures:
            return {}, {}
        features = {name: torch.stack([look(p.digest) for p in pictures]) for name, look in self.features.items()}
        if not self.preprocess:
            return {}, features
        images = [view for picture in pictures for view in self.config.tiling.cut(picture.open())]
        prepared = {prepare: torch.stack([prepare(i) for i in images]) for prepare in set(self.preprocess.values())}
        return {name: prepared[prepare] for name, prepare in self.preprocess.items()}, features

    def collate(self, examples: Sequence[Example], *, left: bool = False) -> Batch:
        """Pad to the longest. Padding stands on the right for training, on the left for generation."""
        longest = max(len(example.ids) for example in examples)
        size = (len(examples), longest)
        ids_BT = torch.full(size, self.tokenizer.pad_id)
        labels_BT = torch.full(size, IGNORE_LABEL)
        mask_BT, asked_BT = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
        sees_BT2 = torch.zeros(*size, 2, dtype=torch.long)
        places, before = [], 0
        for row, example in enumerate(examples):
            n = len(example.ids)
            span = slice(longest - n, longest) if left else slice(0, n)
            ids_BT[row, span], labels_BT[row, span], mask_BT[row, span] = example.ids, example.labels, True
            if example.asked is not None:
                asked_BT[row, span] = example.asked
            if example.sees is not None:
                sees_BT2[row, span] = example.sees + before
            if example.places is not None:
                first = before * self.tokens_per_view
                places.append(torch.where(example.places == ROW_END, ROW_END, example.places + first))
            before += len(example.views)
        places_N = torch.cat(places) if places else None
        if places_N is not None and torch.equal(places_N, torch.arange(before * self.tokens_per_view)):
            places_N = None
        return Batch(
            tuple(example.id for example in examples),
            ids_BT,
            labels_BT,
            mask_BT,
            _joined([example.pixels for example in examples]),
            _joined([example.features for example in examples]),
            Views.of([example.views for example in examples]) if any(example.views for example in examples) else None,
            places_N,
            asked_BT,
            sees_BT2 if any(example.sees is not None for example in examples) else None,
        )


def _joined(maps: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Views of all rows one after another, per encoder, in row order; rows without a picture bring none.

    Encoders that share their tensors in every row share the joined one.
    """
    joined: dict[tuple[int, ...], Tensor] = {}
    out = {}
    for name in dict.fromkeys(name for one in maps for name in one):
        rows = [one[name] for one in maps if name in one]
        key = tuple(id(row) for row in rows)
        if key not in joined:
            joined[key] = torch.cat(rows).float()
        out[name] = joined[key]
    return out
