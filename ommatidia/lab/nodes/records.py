"""Records that will be drawn or asked, looked at before anything runs: do they read, do they fit, is there a word to
learn. Image headers are read, pixels are not; what surely fits by its bytes is not tokenised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from ommatidia.core.errors import DataError
from ommatidia.core.picture import DrawnPicture, FilePicture
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import ImagePart, Message, Picture
from ommatidia.data.mixture import Mixture, MixtureConfig
from ommatidia.models.config import MLLMConfig
from ommatidia.models.language import ChatFormat
from ommatidia.models.processor import Processor
from ommatidia.models.vision.tiling import Mark
from ommatidia.train.stage import Stage

_SHOWN = 3
"""Unusable records that a message names."""
_EARLY = 200
"""Samples: as ``data.loader`` judges them, fewer are judged as so many."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one record of a source."""

    bytes: int = 0
    """Of its text as the chat format writes it: no tokenizer of ours makes more tokens of it."""
    images: int = 0
    answered: bool = True
    """Whether there is a turn to learn from."""
    fault: str = ""
    """Why it cannot be read; empty where it can."""
    image_fault: str = ""
    """Why one of its images cannot be seen, which ends no stage that sees nothing."""


@dataclass(frozen=True, slots=True)
class _Records:
    """Records of one source, looked at when they are first asked for."""

    source: Source
    chat: ChatFormat
    seen: dict[int, Record] = field(default_factory=dict)
    headers: dict[Picture, str] = field(default_factory=dict)
    """What is wrong with an image file; many records may show it."""

    def __getitem__(self, index: int) -> Record:
        if index not in self.seen:
            self.seen[index] = self._look(index)
        return self.seen[index]

    def _look(self, index: int) -> Record:
        try:
            sample = self.source[index]
            parts = self.chat.render(sample.messages, answer=True)
        except DataError as error:
            return Record(fault=str(error))
        faults = (self._header(picture) for picture in sample.images if not isinstance(picture, DrawnPicture))
        fault = next((f"sample {sample.id!r}: {fault}" for fault in faults if fault), "")
        size = sum(_most(part.text) for part in parts if not isinstance(part, ImagePart))
        images = sum(isinstance(part, ImagePart) for part in parts)
        answered = any(message.role in ("assistant", "document") for message in sample.messages)
        return Record(size, images, answered, image_fault=fault)

    def _header(self, picture: Picture) -> str:
        """Why an image cannot be seen, as far as its header tells; empty where it can."""
        if isinstance(picture, FilePicture) and picture in self.headers:
            return self.headers[picture]
        fault = ""
        try:
            picture.size()
        except DataError as error:
            fault = str(error)
        if isinstance(picture, FilePicture):  # others would be held in memory
            self.headers[picture] = fault
        return fault


@lru_cache(maxsize=64)
def _records(source: SourceConfig, fingerprint: str, chat: ChatFormat) -> _Records:
    return _Records(source.open(), chat)


def check_stream(stage: Stage, model: MLLMConfig, *, steps: int, seed: int) -> Iterator[DataError]:
    """What makes the stage's stream, or that of its validation, end in an error; ``model`` as the stage reads.

    A record counts only where it is drawn, and against the tolerance as the loader counts it.
    """
    streams = [("", stage.data, steps * stage.batch, stage.batch)]
    if stage.validation is not None:
        batch = min(stage.batch, stage.validation.samples)
        streams.append((" (validation)", stage.validation.data, stage.validation.samples, batch))
    for what, data, positions, batch in streams:
        try:
            yield from _check(f"stage {stage.name!r}{what}", _Stream(data, model, stage, seed), positions, batch)
        except DataError as error:
            yield error


@dataclass(frozen=True)
class _Stream:
    """A mixture as one stage reads it."""

    data: MixtureConfig
    model: MLLMConfig
    stage: Stage
    seed: int

    def drawn(self, mixture: Mixture, positions: int) -> Iterator[tuple[str, int]]:
        """Source and record of every position."""
        return (mixture.locate(position, seed=self.seed) for position in range(positions))


def _check(what: str, stream: _Stream, positions: int, batch: int) -> Iterator[DataError]:
    mixture, chat = stream.data.open(), stream.model.chat
    looked = {name: _records(one.source, one.source.fingerprint(), chat) for name, one in stream.data.used().items()}
    if positions < mixture.size:
        chosen: Sequence[tuple[str, int]] = list(stream.drawn(mixture, positions))
    else:
        chosen = [(name, n) for name, one in looked.items() for n in range(len(one.source))]
    limit = _Limit(stream)
    faults: dict[tuple[str, int], str] = {}
    learnt = True
    for name, index in chosen:
        record = looked[name][index]
        learnt = learnt and record.answered
        seen = record.image_fault if stream.model.encoders else ""
        if fault := record.fault or seen or limit.fault(record, looked[name].source, index):
            faults[name, index] = fault
    if faults:
        drawn = [faults[place] for place in stream.drawn(mixture, positions) if place in faults]
        allowed = 0.0 if mixture.tolerance == 0 else max(1.0, mixture.tolerance * max(positions, _EARLY))
        if len(drawn) > allowed:
            named = list(dict.fromkeys(drawn))
            told = "; ".join(named[:_SHOWN]) + (f"; and {len(named) - _SHOWN} more" if len(named) > _SHOWN else "")
            yield DataError(
                f"{what}: {len(drawn)} of {positions} samples to be drawn cannot be used, more than the tolerated "
                f"{mixture.tolerance:.2%}: {told}"
            )
            return
    if not learnt and stream.stage.distill is None:
        yield from _unsupervised(what, stream, mixture, looked, positions, batch)


def _unsupervised(
    what: str, stream: _Stream, mixture: Mixture, looked: dict[str, _Records], positions: int, batch: int
) -> Iterator[DataError]:
    """The first batch without a word to learn from, which would end the training there."""
    answered = [looked[name][index].answered for name, index in stream.drawn(mixture, positions)]
    for step, first in enumerate(range(0, positions, batch)):
        if not any(answered[first : first + batch]):
            which = "the first batch" if step == 0 else f"batch {step + 1}"
            yield DataError(f"{what}: this data teaches nothing: no token of {which} is supervised; it has no answers")
            return


class _Limit:
    """Says of a record whether it is too long, tokenising only what may be."""

    def __init__(self, stream: _Stream) -> None:
        self._images_alone = stream.stage.distill is not None
        self._length = LengthCheck(stream.model, longest=stream.stage.longest)

    def fault(self, record: Record, source: Source, index: int) -> str:
        if self._images_alone or self._length.surely_fits(record.bytes, record.images):
            return ""
        try:
            self._length.processor.check_length(source[index])
        except DataError as error:
            return str(error)
        return ""


class LengthCheck:
    """Whether samples fit the context of a model with the visual tokens of their images."""

    def __init__(self, model: MLLMConfig, *, longest: int | None = None) -> None:
        self._model, self._longest = model, longest
        self._image = 0
        self._room = min(model.language.shape().context, longest or 1 << 62)
        if model.encoders:
            script = model.token_layout(*model.tiling.largest())
            self._image = model.most_visual_tokens + sum(
                _most(piece.text) for piece in script if isinstance(piece, Mark)
            )

    @cached_property
    def processor(self) -> Processor:
        """Made when something is to be tokenised."""
        return Processor(self._model, longest=self._longest)

    def surely_fits(self, text: int, images: int) -> bool:
        """Whether a sample of so many bytes and images fits, however its words become tokens."""
        return text + images * self._image <= self._room

    def template_bytes(self) -> int:
        """Bytes that the chat format writes around one question at most."""
        parts = self._model.chat.render([Message("user", ("?",)), Message("assistant", ("?",))], answer=True)
        return sum(_most(part.text) for part in parts if not isinstance(part, ImagePart))


def _most(text: str) -> int:
    """Tokens that a text can become at most: one a byte, and what a tokenizer may put around it."""
    return len(text.encode("utf-8", "replace")) + 2
