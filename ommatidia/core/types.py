"""The values that flow: Picture, Message, Sample (from data), Example (one tokenised sample), Batch (for a model).

Shapes: B batch, T tokens of a sequence, K views, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Role = Literal["system", "user", "assistant"]

IMAGE_TOKEN_ID = -200
"""Stands in ``ids`` for one visual token; negative, so that no tokenizer's vocabulary can collide with it."""

IGNORE_LABEL = -100
"""A position that carries no loss."""


class Picture(Protocol):
    """An image that is decoded when it is needed, never earlier, and known by its content."""

    @property
    def digest(self) -> str:
        """Identifies the pixels: equal digests mean equal pictures, in any source and any process."""
        ...

    def open(self) -> Image:
        """Decode to an RGB image. Raises DataError when the picture is missing, broken or no single RGB-like image."""
        ...


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The place of one picture inside a message: ``Sample.images[index]``."""

    index: int


Part = str | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: text and pictures in reading order."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The words alone, pictures left out."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Sample:
    """A dialogue and its pictures. Text-only samples have no image; the last assistant turn is the reference answer."""

    id: str
    messages: tuple[Message, ...]
    images: tuple[Picture, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything a benchmark or report wants to know: task, references, options, cluster (the picture's id)."""

    @property
    def answer(self) -> str:
        """The text of the last assistant turn, or an empty string."""
        return next((m.text for m in reversed(self.messages) if m.role == "assistant"), "")

    @property
    def question(self) -> str:
        """The text of the last user turn, or an empty string."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(slots=True)
class Example:
    """One sample as numbers. Visual tokens already stand in ``ids`` as IMAGE_TOKEN_ID, exactly as many as will come.

    ``pixels[encoder]`` is K_C_H_W; ``features[encoder]``, where an encoder is frozen and its output was stored, is
    K_H_W_D and takes the place of the pixels. K counts the views of all pictures of the sample in reading order.
    """

    id: str
    ids: torch.Tensor
    labels: torch.Tensor
    pixels: dict[str, torch.Tensor] = field(default_factory=dict)
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    views: int = 0

    @property
    def supervised(self) -> int:
        """Number of positions that carry a loss."""
        return int((self.labels != IGNORE_LABEL).sum())


@dataclass(slots=True)
class Batch:
    """Examples padded to one length. Views of all rows stand one after another, in row order."""

    sample_ids: tuple[str, ...]
    ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    mask_BT: torch.Tensor
    """True where a token is real."""
    pixels: dict[str, torch.Tensor] = field(default_factory=dict)
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    views: int = 0

    @property
    def supervised(self) -> int:
        return int((self.labels_BT != IGNORE_LABEL).sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.sample_ids,
            self.ids_BT.to(device, non_blocking=True),
            self.labels_BT.to(device, non_blocking=True),
            self.mask_BT.to(device, non_blocking=True),
            {name: t.to(device, non_blocking=True) for name, t in self.pixels.items()},
            {name: t.to(device, non_blocking=True) for name, t in self.features.items()},
            self.views,
        )
