"""Hybrid injection (NVLM-H): the image at a glance stands in the text, its tiles are looked at inside the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

import torch
from torch import Tensor

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import ROW_END, View
from ommatidia.models.injection.gated import GatedConfig, GatedInjection
from ommatidia.models.injection.injection import Injection, InjectionContext, VisualContext, place
from ommatidia.models.vision.tiling import Mark, Tag, TokenLayout, VisualTokens

if TYPE_CHECKING:
    pass


class Hybrid(GatedConfig):
    """The view that shows all of an image stands in the text; gated layers look at the others (2409.11402).

    The text of a tile's tag leaves the sequence and stands beside the tile's tokens among keys and values, through the
    language model's own embeddings; row ends of a tiling are left out. An image of one view is inline alone. NVLM-H
    has ``layers`` = 10, ``every`` = 6 (34B) or 8 (72B).
    """

    kind: Literal["hybrid"] = "hybrid"
    pictures: Literal["last", "all"] = "all"

    def token_layout(self, layout: TokenLayout, grid: Grid, views: Sequence[View]) -> TokenLayout:
        inline = {number for number, view in enumerate(views) if view.overview or len(views) == 1}
        if not inline:
            raise ConfigError(
                f"injection: hybrid wants one view of an image to show all of it, but of the {len(views)} views that "
                "the tiling cuts a large one into none is its overview"
            )
        return tuple(kept for piece in layout if (kept := _kept(piece, inline, grid.tokens)) is not None)

    def build(self, context: InjectionContext) -> Injection:
        return HybridInjection(self.module_layers(context.language))

    def cost(self, context: InjectionContext, *, tokens: int, views: float) -> Cost:
        """For one image: its first view is inline, and the few words of the tags among the keys are not counted."""
        return self.layers_cost(context.language, tokens=tokens, keys=max(views - 1, 0) * context.grid.tokens)

    @classmethod
    def tiny(cls) -> Self:
        return cls(every=1)


def _kept(piece: Mark | Tag | VisualTokens, inline: set[int], tokens: int) -> Mark | Tag | VisualTokens | None:
    """What becomes of a piece of the tiling's layout when only these views are inline."""
    if isinstance(piece, VisualTokens):
        numbers = [number for number in piece.numbers if number != ROW_END and number // tokens in inline]
        return VisualTokens(numbers) if numbers else None
    if isinstance(piece, Mark) and piece.view is not None and piece.view not in inline:
        return Tag(piece.text, piece.view)
    return piece


class HybridInjection(GatedInjection):
    """Views that have a place in the text are not looked at again."""

    def forward(self, x_BTE: Tensor, seen: VisualContext) -> Tensor:
        return place(x_BTE, seen)

    def looked_at(self, seen: VisualContext) -> Tensor:
        device = seen.v_KHWE.device
        if seen.visual_index_N is None:
            return torch.arange(0, device=device)
        away_K = torch.ones(len(seen.views), dtype=torch.bool, device=device)
        away_K[seen.visual_index_N // seen.v_KHWE[0, ..., 0].numel()] = False
        return away_K.nonzero().squeeze(-1)
