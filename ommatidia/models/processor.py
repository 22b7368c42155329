"""Processor: Sample to Example. The same object trains, evaluates and serves, so the three cannot drift apart.

Shapes: K views of a sample, C colour channels, H rows, W columns, D feature channels, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from itertools import accumulate

import torch
from PIL import Image
from torch import Tensor

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.picture import DrawnPicture
from ommatidia.core.types import (
    IGNORE_LABEL,
    NO_TOKEN,
    ROW_END,
    Batch,
    Example,
    ImagePart,
    Message,
    Picture,
    Sample,
    Views,
    Written,
)
from ommatidia.models.config import MLLMConfig
from ommatidia.models.row import Row
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.models.vision.preprocess import Preprocess, prepare_all
from ommatidia.models.vision.tiling import Tag, TilingConfig, VisualTokens

_TEXTS_KEPT = 2**16
"""Segments whose ids are remembered."""

FeatureLookup = Callable[[str], Tensor]
"""From an image's digest to the stored trunk features x_KHWD of its views, or x_1HWD where the encoder sees images
whole. Raises RunError when the image was not stored."""


def preprocess_for(tiling: TilingConfig, name: str, encoder: EncoderConfig) -> Preprocess:
    """How an encoder prepares what the tiling gives it: a view as it always does, a whole canvas stretched, so that
    fractions of the canvas are fractions of its map."""
    prepare = encoder.preprocess()
    return prepare.model_copy(update={"fit": "stretch"}) if name in tiling.seen_whole else prepare


class Processor:
    """Renders the dialogue, places the visual tokens, and prepares each image once for every encoder."""

    def __init__(
        self, config: MLLMConfig, *, features: Mapping[str, FeatureLookup] | None = None, longest: int | None = None
    ) -> None:
        """``longest``: tokens after which the text of a sample is cut off; see ``Stage.longest``."""
        self.config, self.longest = config, longest
        self.chat = config.chat
        self.tokenizer = config.language.tokenizer().guarding(config.chat.template_texts())
        self.end_id = self.tokenizer.id_of(config.chat.end) if config.chat.end.strip() else None
        grid = config.visual_grid()
        self.tokens_per_view = 0 if grid is None else grid.tokens
        self.vocabulary = config.language.shape().vocab
        self.context = config.language.shape().context
        self.features = dict(features or {})
        if strangers := set(self.features) - set(config.encoders):
            raise ConfigError(f"stored features for {sorted(strangers)}, which are no encoders of this model")
        self.preprocess = {
            n: preprocess_for(config.tiling, n, e) for n, e in config.encoders.items() if n not in self.features
        }
        self._encode = lru_cache(maxsize=_TEXTS_KEPT)(self._encode_uncached)
        self._layout = lru_cache(maxsize=2**10)(config.token_layout)
        self._cut = lru_cache(maxsize=2**10)(config.tiling.views)
        self._speech: Mapping[str, str] | None = None

    def through(self, features: Mapping[str, FeatureLookup]) -> Processor:
        """The same processor that looks these features up too instead of preparing pixels for their encoders."""
        return Processor(self.config, features={**self.features, **features})

    def images_of(self, sample: Sample) -> tuple[Picture, ...]:
        """The images that some encoder sees for this sample."""
        return sample.images

    @property
    def speech(self) -> Mapping[str, str]:
        """Digests of what decides how a sample is written down, by name."""
        if self._speech is None:
            config, grid = self.config, self.config.visual_grid()
            parts = {
                "tokenizer": self.tokenizer.digest(),
                "chat format": config.chat.hashed(),
                "grid of visual tokens": grid and [grid.height, grid.width],
                "tiling": config.tiling.hashed(),
                "injection": config.injection.hashed(),
            }
            self._speech = {name: digest(part) for name, part in parts.items()}
        return self._speech

    def _encode_uncached(self, text: str, special: bool) -> tuple[int, ...]:
        ids = tuple(self.tokenizer.encode(text, special=special))
        if ids and max(ids) >= self.vocabulary:
            raise ConfigError(
                f"the tokenizer gives the id {max(ids)} in {text[:40]!r}, but the language model has {self.vocabulary} "
                "embeddings; they do not belong together"
            )
        return ids

    def __call__(self, sample: Sample, *, answer: bool = True) -> Example:
        """The sample as numbers; with ``answer=False`` the prompt up to where the model should speak.

        Raises DataError: an image that cannot be read, a place without its image, a text longer than the context,
        visual tokens behind the place where the text is to be cut. A document is cut before such.
        """
        try:
            row = self._fitting_row(sample, answer=answer)
            pixels, features = self.see(row.pictures)
        except DataError as error:
            raise error.at(sample=sample.id) from None
        return Example(
            sample.id,
            torch.tensor(row.ids),
            torch.tensor(row.labels),
            pixels,
            features,
            tuple(row.views),
            torch.tensor(row.places, dtype=torch.long) if row.views else None,
            torch.tensor(row.asked),
            torch.tensor(row.sees) if row.views and self.config.injection.attends != "none" else None,
            _even(row.tags) if any(row.tags) else None,
        )

    def check_length(self, sample: Sample, *, answer: bool = True) -> None:
        """Raises DataError where calling the processor would for the sample's length or places; decodes no image."""
        try:
            self._fitting_row(sample, answer=answer)
        except DataError as error:
            raise error.at(sample=sample.id) from None

    def _fitting_row(self, sample: Sample, *, answer: bool) -> Row:
        """The sample cut to ``longest``. Raises DataError where it does not fit the context."""
        row = self._render(sample, answer=answer)
        if self.longest is not None and answer:
            document = any(message.role == "document" for message in sample.messages)
            (row.cut_document if document else row.cut)(self.longest)
        if len(row.ids) > self.context:
            seen = f": {len(row.places)} are visual, of {len(row.views)} views" if row.views else ""
            raise DataError(f"{len(row.ids)} tokens, but the context of the language model holds {self.context}{seen}")
        return row

    def length(self, sample: Sample) -> int:
        """Tokens of the sample and its answers, visual ones included; no image is decoded. Raises DataError."""
        return len(self._render(sample, answer=True).ids)

    def write(self, sample: Sample) -> Written:
        """The sample as this processor writes it, to be kept: tokens and places, no pixels. Raises DataError."""
        row = self._render(replace(sample, written=None), answer=True)
        supervised = [label != IGNORE_LABEL for label in row.labels]
        shown = tuple(next(n for n, one in enumerate(sample.images) if one is picture) for picture in row.pictures)
        sizes = tuple(picture.size() for picture in row.pictures)
        return Written(
            self.speech, row.ids, supervised, row.asked, row.sees, row.places, tuple(row.views), row.tags, shown,
            sizes, tuple(row.spans),
        )  # fmt: skip

    def _recall(self, sample: Sample, written: Written) -> Row:
        """What ``write`` kept. Raises ConfigError where another model wrote it, DataError for changed images."""
        if other := [part for part, own in self.speech.items() if written.speech.get(part) != own]:
            raise ConfigError(
                f"tokens made beforehand for another {' and another '.join(other)} than this model's; "
                "make them again with omma data pack"
            )
        pictures = [sample.images[index] for index in written.shown]
        for picture, before in zip(pictures, written.sizes, strict=True):
            if (now := picture.size()) != before:
                cause = f"an image has {now[1]} x {now[0]} pixels; when its tokens were made, {before[1]} x {before[0]}"
                raise DataError(f"{cause}; make them again with omma data pack")
        labels = [i if s else IGNORE_LABEL for i, s in zip(written.ids, written.supervised, strict=True)]
        return Row(
            self.config.injection.attends, list(written.ids), labels, list(written.asked), list(written.sees),
            list(written.places), list(written.views), [list(ids) for ids in written.tags], pictures,
            list(written.spans),
        )  # fmt: skip

    def _render(self, sample: Sample, *, answer: bool) -> Row:
        if answer and sample.written is not None:
            return self._recall(sample, sample.written)
        row = Row(self.config.injection.attends)
        for segment in self.chat.render(sample.messages, answer=answer):
            if isinstance(segment, ImagePart):
                if not 0 <= segment.index < len(sample.images):
                    raise DataError(f"a place for image {segment.index}, but the sample has {len(sample.images)}")
                if self.config.encoders:
                    self._look(row, sample.images[segment.index])
            else:
                row.speak(self._encode(segment.text, segment.template), segment)
        return row

    def _look(self, row: Row, picture: Picture) -> None:
        """One image: its views, and what of it stands in the text."""
        height, width = picture.size()
        first = row.begin_picture(picture, self._cut(height, width))
        for piece in self._layout(height, width):
            if isinstance(piece, VisualTokens):
                row.place([n if n == ROW_END else n + first * self.tokens_per_view for n in piece.numbers])
            elif isinstance(piece, Tag):
                row.tags[first + piece.view] += self._encode(piece.text, False)
            else:
                row.mark(self._encode(piece.text, False), piece, first)
        row.end_picture(first)

    def see(self, pictures: Sequence[Picture]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pixels K_C_H_W and stored features K_H_W_D per encoder; an image is decoded once, and only if it must be.

        Encoders with equal transforms share one tensor.
        """
        if not pictures:
            return {}, {}
        features = {name: torch.cat([look(p.digest) for p in pictures]) for name, look in self.features.items()}
        tiling = self.config.tiling
        whole = {name: prepare for name, prepare in self.preprocess.items() if name in tiling.seen_whole}
        tiled = {name: prepare for name, prepare in self.preprocess.items() if name not in whole}
        pixels: dict[str, list[Tensor]] = {name: [] for name in self.preprocess}
        for image in (picture.open() for picture in pictures if self.preprocess):
            for view in tiling.cut(image) if tiled else ():
                for name, pixels_CHW in prepare_all(view, tiled).items():
                    pixels[name].append(pixels_CHW)
            if whole:
                for name, pixels_CHW in prepare_all(tiling.canvas(image), whole).items():
                    pixels[name].append(pixels_CHW)
        return _shared(pixels, torch.stack), features

    def blank(self, picture: bool) -> Example:
        """A few words that nothing is to be learned from, behind the smallest image or behind none.

        It stands in where a rank has no sample for what all ranks compute together. Stored features are zeros.
        """
        images = (DrawnPicture("blank", partial(Image.new, "RGB", (32, 32)), (32, 32)),) if picture else ()
        words = ImagePart(0), "a"
        said = Message("user", words if picture else words[1:]), Message("assistant", ("a",))
        example = self._plain(Sample("blank", said, images))
        example.labels.fill_(IGNORE_LABEL)
        for name in self.features if picture else ():
            rows, grid = len(example.pixels.pop(name)), self.config.encoders[name].trunk_grid()
            example.features[name] = torch.zeros(rows, grid.height, grid.width, grid.dim)
        return example

    @cached_property
    def _plain(self) -> Processor:
        """The same without stored features."""
        return Processor(self.config) if self.features else self

    def collate(self, examples: Sequence[Example], *, left: bool = False) -> Batch:
        """Pad to the longest. Padding stands on the right for training, on the left for generation."""
        longest = max(len(example.ids) for example in examples)
        spans = [slice(longest - len(e.ids), longest) if left else slice(0, len(e.ids)) for e in examples]
        return self._laid_out(examples, list(enumerate(spans)), (len(examples), longest))

    def pack(self, examples: Sequence[Example]) -> Batch:
        """All of them in one row, one behind another, without padding; none is predicted from the one before it."""
        lengths = tuple(len(example.ids) for example in examples)
        ends = list(accumulate(lengths))
        spans = [(0, slice(end - length, end)) for end, length in zip(ends, lengths, strict=True)]
        batch = self._laid_out(examples, spans, (1, ends[-1]))
        batch.labels_BT[0, [span.start for _, span in spans]] = IGNORE_LABEL
        batch.lengths = lengths
        return batch

    def _laid_out(
        self, examples: Sequence[Example], spans: Sequence[tuple[int, slice]], size: tuple[int, int]
    ) -> Batch:
        """The examples at their places, (row, columns), of a batch of this size."""
        ids_BT = torch.full(size, self.tokenizer.pad_id)
        labels_BT = torch.full(size, IGNORE_LABEL)
        mask_BT, question_mask_BT = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
        visible_views_BT2 = torch.zeros(*size, 2, dtype=torch.long)
        places, before = [], 0
        for example, (row, span) in zip(examples, spans, strict=True):
            ids_BT[row, span], labels_BT[row, span], mask_BT[row, span] = example.ids, example.labels, True
            if example.asked is not None:
                question_mask_BT[row, span] = example.asked
            if example.sees is not None:
                visible_views_BT2[row, span] = example.sees + before
            if example.places is not None:
                first = before * self.tokens_per_view
                places.append(torch.where(example.places == ROW_END, ROW_END, example.places + first))
            before += len(example.views)
        visual_index_N = torch.cat(places) if places else None
        if visual_index_N is not None and torch.equal(visual_index_N, torch.arange(before * self.tokens_per_view)):
            visual_index_N = None
        return Batch(
            tuple(example.id for example in examples),
            ids_BT,
            labels_BT,
            mask_BT,
            _joined([example.pixels for example in examples]),
            _joined([example.features for example in examples]),
            Views.of([example.views for example in examples], packed=size[0] < len(examples))
            if any(example.views for example in examples)
            else None,
            visual_index_N,
            question_mask_BT,
            visible_views_BT2 if any(example.sees is not None for example in examples) else None,
            _tags(examples),
        )


def _even(tags: Sequence[Sequence[int]]) -> Tensor:
    """Ids K_G, each view's filled up to the longest."""
    longest = max(map(len, tags))
    return torch.tensor([[*ids, *[NO_TOKEN] * (longest - len(ids))] for ids in tags], dtype=torch.long)


def _tags(examples: Sequence[Example]) -> Tensor | None:
    """The tags of all views of a batch, K_G."""
    if all(example.tags is None for example in examples):
        return None
    none: list[list[int]] = [[]]
    return _even([ids for e in examples for ids in (none * len(e.views) if e.tags is None else e.tags.tolist())])


def _joined(maps: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Views of all rows one after another, per encoder, in row order; rows without an image bring none.

    Encoders that share their tensors in every row share the joined one.
    """
    names = dict.fromkeys(name for one in maps for name in one)
    rows = {name: [one[name] for one in maps if name in one] for name in names}
    return _shared(rows, lambda tensors: torch.cat(tensors).float())


def _shared(lists: Mapping[str, list[Tensor]], join: Callable[[list[Tensor]], Tensor]) -> dict[str, Tensor]:
    """Each list joined; names whose lists hold the very same tensors share the result."""
    made: dict[tuple[int, ...], Tensor] = {}
    out = {}
    for name, tensors in lists.items():
        key = tuple(map(id, tensors))
        if key not in made:
            made[key] = join(tensors)
        out[name] = made[key]
    return out
