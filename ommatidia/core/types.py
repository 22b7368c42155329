"""The values that flow: Image, Message, Sample (from data), Example (one tokenised sample), Batch (for a model).

Shapes: B batch, T tokens of a sequence, K views, G words beside a view, C colour channels, H rows, W columns, D feature
channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Role = Literal["system", "user", "assistant", "document"]
"""``document``: a text to be continued, with images in it; the only message of its sample, and without a template."""

IMAGE_TOKEN_ID = -200
"""Stands in ``ids`` for one visual token; negative, so that no tokenizer's vocabulary can collide with it."""

IGNORE_LABEL = -100
"""A position that carries no loss."""

ROW_END = -1
"""Among ``places``: no visual token but the learned vector that ends a row of an unpadded image."""

NO_TOKEN = -1
"""Fills up ``tags`` where a view has fewer words beside it than another."""


class Picture(Protocol):
    """An image that is decoded when it is needed, never earlier, and known by its content."""

    @property
    def digest(self) -> str:
        """Identifies the pixels: equal digests mean equal images, in any source and any process."""
        ...

    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of what ``open`` gives, from the header where there is one. Raises DataError."""
        ...

    def open(self) -> Image:
        """Decode to an RGB image. Raises DataError when the image is missing, broken or no single RGB-like image."""
        ...


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The place of one image inside a message: ``Sample.images[index]``."""

    index: int


Part = str | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: text and images in reading order."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The words alone, images left out."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Written:
    """A sample as a processor wrote it down, answers included, nothing cut off, pixels left out."""

    speech: Mapping[str, str]
    """Digests of what decides how a sample is written, by the name of the part."""
    ids: Sequence[int]
    supervised: Sequence[bool]
    asked: Sequence[bool]
    sees: Sequence[tuple[int, int]]
    places: Sequence[int]
    views: tuple[View, ...]
    tags: Sequence[Sequence[int]]
    """Of every view."""
    shown: tuple[int, ...]
    """Which of ``Sample.images`` stand in the text, in reading order."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) in pixels of those."""
    spans: tuple[tuple[int, int, int, int], ...]
    """Of those: tokens [first, end), how many views and how many places stand before."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A dialogue and its images. Text-only samples have no image; the last assistant turn is the reference answer."""

    id: str
    messages: tuple[Message, ...]
    images: tuple[Picture, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything a benchmark or report wants to know: task, references, options, cluster (the image's id)."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What the record says beyond its turns and images, as plain JSON: nothing reads it, writers hand it on."""
    written: Written | None = None
    """The sample in tokens, where they were made beforehand; they go with one model's way of writing."""

    @property
    def answer(self) -> str:
        """The text of the last assistant turn, or an empty string."""
        return next((m.text for m in reversed(self.messages) if m.role == "assistant"), "")

    @property
    def question(self) -> str:
        """The text of the last user turn, or an empty string."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class View:
    """One look at an image: all of it, or one tile of it."""

    picture: int
    """Which image of the sample, in reading order."""
    size: tuple[int, int]
    """(height, width) in pixels of what the view shows, before any encoder's own transform."""
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """(top, left, bottom, right) of the region as fractions of the image as the tiling lays it out."""
    overview: bool = False
    """Whether it shows all of an image whose other views are its tiles."""


@dataclass(slots=True)
class Example:
    """One sample as numbers. Visual tokens already stand in ``ids`` as IMAGE_TOKEN_ID, exactly as many as will come.

    ``pixels[encoder]`` is K_C_H_W; ``features[encoder]``, where an encoder is frozen and its output was stored, is
    K_H_W_D and takes the place of the pixels. K counts the views of all images of the sample in reading order. An
    encoder that sees images whole, whatever the tiling, brings one row an image instead.
    """

    id: str
    ids: torch.Tensor
    labels: torch.Tensor
    pixels: dict[str, torch.Tensor] = field(default_factory=dict)
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    views: tuple[View, ...] = ()
    places: torch.Tensor | None = None
    """For every IMAGE_TOKEN_ID in order: which visual token stands there, counted through K, H, W; or ROW_END. None:
    all of them in their order."""
    asked: torch.Tensor | None = None
    """True at the words of the user's turns: what a fusion that reads the question may see. None: nothing marked."""
    sees: torch.Tensor | None = None
    """T_2: the views [first, end) that layers inside the decoder may look at from each position. None: no layers."""
    tags: torch.Tensor | None = None
    """K_G: ids of words that stand beside a view's tokens for those layers, NO_TOKEN behind them. None: no words."""

    @property
    def supervised(self) -> int:
        """Number of positions that carry a loss."""
        return int((self.labels != IGNORE_LABEL).sum())


@dataclass(slots=True)
class Views:
    """What is known of the K views of a batch besides their pixels."""

    rows_K: torch.Tensor
    """The row of the batch that each view belongs to."""
    pictures_K: torch.Tensor
    """The image that each view shows, counted through the whole batch."""
    sizes_K2: torch.Tensor
    """(height, width) in pixels of what each view shows."""
    boxes_K4: torch.Tensor
    """(top, left, bottom, right) of the region as fractions of its image."""
    samples_K: torch.Tensor
    """The sample that each view belongs to: its row, unless several samples share a row."""
    question_KE: torch.Tensor | None = None
    """The mean embedding of the question that each view is asked, where a fusion reads it."""

    def __len__(self) -> int:
        return len(self.rows_K)

    @classmethod
    def of(cls, rows: Sequence[Sequence[View]], *, packed: bool = False) -> Views:
        """The views of a batch, sample by sample; ``packed``: all samples stand in one row."""
        import torch

        owners = torch.tensor([row for row, views in enumerate(rows) for _ in views], dtype=torch.long)
        pictures, before = [], 0
        for views in rows:
            pictures += [before + view.picture for view in views]
            before += max((view.picture + 1 for view in views), default=0)
        flat = [view for views in rows for view in views]
        return cls(
            torch.zeros_like(owners) if packed else owners,
            torch.tensor(pictures, dtype=torch.long),
            torch.tensor([view.size for view in flat], dtype=torch.long).reshape(-1, 2),
            torch.tensor([view.box for view in flat], dtype=torch.float32).reshape(-1, 4),
            owners,
        )

    @classmethod
    def whole(cls, count: int, size: tuple[int, int] = (64, 64)) -> Views:
        """``count`` rows with one whole image each: what most tests and notebooks want."""
        return cls.of([[View(0, size)] for _ in range(count)])

    def asked(self, question_SE: torch.Tensor) -> Views:
        """The same views, each with its sample's question."""
        return replace(self, question_KE=question_SE[self.samples_K])

    def to(self, device: torch.device | str) -> Views:
        """The same views on another device."""
        question = None if self.question_KE is None else self.question_KE.to(device, non_blocking=True)
        return Views(
            self.rows_K.to(device, non_blocking=True),
            self.pictures_K.to(device, non_blocking=True),
            self.sizes_K2.to(device, non_blocking=True),
            self.boxes_K4.to(device, non_blocking=True),
            self.samples_K.to(device, non_blocking=True),
            question,
        )


@dataclass(slots=True)
class Batch:
    """Examples padded to one length, or packed into one row. Views of all samples stand one after another."""

    sample_ids: tuple[str, ...]
    ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    mask_BT: torch.Tensor
    """True where a token is real."""
    pixels: dict[str, torch.Tensor] = field(default_factory=dict)
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    views: Views | None = None
    """None: text only."""
    visual_index_N: torch.Tensor | None = None
    """For every IMAGE_TOKEN_ID, row by row: the visual token that stands there, counted through K, H, W; or ROW_END.
    None: all of them in their order."""
    question_mask_BT: torch.Tensor | None = None
    """True at the words of the user's turns."""
    visible_views_BT2: torch.Tensor | None = None
    """The views [first, end), counted through K, that layers inside the decoder may look at from each position."""
    tags_KG: torch.Tensor | None = None
    """Ids of words that stand beside each view's tokens for those layers, NO_TOKEN behind them."""
    lengths: tuple[int, ...] | None = None
    """Tokens of the samples that stand one behind another in the one row of a pack, each seeing only itself. None:
    every sample has a row of its own."""

    @property
    def supervised(self) -> int:
        return int((self.labels_BT != IGNORE_LABEL).sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device. Encoders that share one tensor of pixels go on sharing it."""
        moved: dict[int, torch.Tensor] = {}

        def move(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor.to(device, non_blocking=True)
            return moved[id(tensor)]

        def maybe(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else move(tensor)

        return Batch(
            self.sample_ids,
            move(self.ids_BT),
            move(self.labels_BT),
            move(self.mask_BT),
            {name: move(t) for name, t in self.pixels.items()},
            {name: move(t) for name, t in self.features.items()},
            None if self.views is None else self.views.to(device),
            maybe(self.visual_index_N),
            maybe(self.question_mask_BT),
            maybe(self.visible_views_BT2),
            maybe(self.tags_KG),
            self.lengths,
        )
