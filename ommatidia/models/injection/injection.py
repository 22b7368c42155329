"""The contract of an injection: what stands in the text for an image, and what happens there and inside the decoder.

Shapes: B batch, T tokens, K views, H rows, W columns, E language width, N visual places of the whole batch.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.errors import AlignmentError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import IMAGE_TOKEN_ID, ROW_END, Batch, View, Views
from ommatidia.models.vision.tiling import TokenLayout

if TYPE_CHECKING:
    from ommatidia.models.language.language import LanguageModel, LanguageShape


@dataclass(frozen=True, slots=True)
class VisualContext:
    """What a batch's images have become on their way into the language model."""

    v_KHWE: Tensor
    """Projected views."""
    views: Views
    slots_BT: Tensor
    """True where a visual token stands in the sequence."""
    visual_index_N: Tensor | None
    """Which one, counted through K, H, W, or ROW_END; None: all of them in their order."""
    visible_views_BT2: Tensor | None
    """The views [first, end) that layers inside the decoder may look at from each position."""
    memory: Any = None
    """What the fusion left for such layers (``Fused.memory``)."""
    tags_KG: Tensor | None = None
    """Ids of words that stand beside each view's tokens for such layers, NO_TOKEN behind them."""

    @classmethod
    def by(cls, batch: Batch, v_KHWE: Tensor, memory: Any = None) -> VisualContext:
        """The views of a batch that has images."""
        assert batch.views is not None
        slots_BT = batch.ids_BT == IMAGE_TOKEN_ID
        return cls(v_KHWE, batch.views, slots_BT, batch.visual_index_N, batch.visible_views_BT2, memory, batch.tags_KG)


Attends = Literal["none", "last", "all"]


@dataclass(frozen=True, slots=True)
class InjectionContext:
    """What an injection needs to know of the model around it."""

    grid: Grid
    """What the projector gives for one view."""
    language: LanguageShape
    memory: Any = None
    """Sizes of what the fusion keeps for layers inside the decoder (``FusionConfig.memory_shape``)."""


class InjectionConfig(Config, family=True):
    """Names an injection."""

    @property
    def attends(self) -> Attends:
        """What layers inside the decoder may look at from a position of the text: nothing, the views of the last
        image before it (Flamingo), or those of all images before it (NVLM)."""
        return "none"

    @property
    def steers(self) -> bool:
        """Whether there are layers inside the decoder."""
        return self.attends != "none"

    @property
    def ends_rows(self) -> bool:
        """Whether the injection has the learned vector that stands behind a row of visual tokens."""
        return False

    @abstractmethod
    def token_layout(self, layout: TokenLayout, grid: Grid, views: Sequence[View]) -> TokenLayout:
        """What of a tiling's layout stands in the text; ``grid`` is what the projector gives for one of the views.

        Raises ConfigError where this injection cannot show an image that is cut into such views."""

    def check(self, context: InjectionContext) -> None:
        """Raises ConfigError where this injection does not go with the model around it."""

    @abstractmethod
    def build(self, context: InjectionContext) -> Injection:
        """The module. Raises ConfigError as ``check`` does."""

    def cost(self, context: InjectionContext, *, tokens: int, views: float) -> Cost:
        """Parameters, and operations for a sequence of ``tokens`` positions and this many views."""
        return Cost()

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()


class Injection(nn.Module, ABC):
    """Puts projected views into the sequence (``forward``) and, in some designs, into the decoder (``inside``)."""

    @abstractmethod
    def forward(self, x_BTE: Tensor, seen: VisualContext) -> Tensor:
        """Embeddings with the visual places filled. Raises AlignmentError."""

    @property
    def steers(self) -> bool:
        """Whether it has layers inside the decoder."""
        return type(self).inside is not Injection.inside

    def inside(self, language: LanguageModel, seen: VisualContext) -> contextlib.AbstractContextManager[None]:
        """Active while the decoder runs on these views: the place for layers inside it. Nothing by default."""
        return contextlib.nullcontext()


def place(x_BTE: Tensor, seen: VisualContext, row_end_E: Tensor | None = None) -> Tensor:
    """Visual tokens at their slots; ``row_end_E`` is the learned vector behind each row. Raises AlignmentError."""
    v_NE = seen.v_KHWE.flatten(0, 2)
    if seen.visual_index_N is not None:
        if row_end_E is not None:
            v_NE = torch.cat([v_NE, row_end_E.to(v_NE.dtype).unsqueeze(0)])
        elif bool((seen.visual_index_N == ROW_END).any()):
            raise AlignmentError("the text ends rows of visual tokens, but this injection has no row_end vector")
        v_NE = v_NE[seen.visual_index_N]
    slots = int(seen.slots_BT.sum())
    if slots != len(v_NE):
        raise AlignmentError(f"{slots} image placeholders in the text but {len(v_NE)} visual tokens from the encoders")
    return x_BTE.masked_scatter(seen.slots_BT.unsqueeze(-1), v_NE.to(x_BTE.dtype))
