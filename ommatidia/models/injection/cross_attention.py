"""Cross-attention injection (Flamingo, OpenFlamingo, NVLM-X): layers look at visual tokens, none stands in the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

import torch
from torch import Tensor

from ommatidia.core.errors import AlignmentError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import View
from ommatidia.models.injection.gated import GatedConfig, GatedInjection
from ommatidia.models.injection.injection import Injection, InjectionContext, VisualContext
from ommatidia.models.vision.tiling import Mark, TokenLayout, VisualTokens

if TYPE_CHECKING:
    pass


class CrossAttention(GatedConfig):
    """Gated layers look at the views of the last image or of all; only a tiling's marks stay in the text.

    The tokens of a tile's tag see that tile alone (NVLM, 2409.11402). Published values:

    | | every | first | heads | head_dim | activation | images | mark |
    |---|---|---|---|---|---|---|---|
    | Flamingo-3B, 9B, 80B (2204.14198) | 1, 4, 7 | 0 | | 128 | squared_relu | last | ``<image>`` |
    | OpenFlamingo-3B, 4B, 9B (2308.01390) | 1, 2, 4 | every - 1 | 8 | 64 | gelu | last | ``<image>`` |
    | NVLM-X 34B, 72B (layers = 10) | 6, 8 | | | | | all | |

    What a cell leaves open is not published.
    """

    kind: Literal["cross_attention"] = "cross_attention"
    pictures: Literal["last", "all"] = "last"
    mark: str = ""
    """Text that stands for each image, before its tags, and sees all of it; empty: none."""

    def token_layout(self, layout: TokenLayout, grid: Grid, views: Sequence[View]) -> TokenLayout:
        start = (Mark(self.mark, whole=True),) if self.mark else ()
        return (*start, *(piece for piece in layout if not isinstance(piece, VisualTokens)))

    def build(self, context: InjectionContext) -> Injection:
        return CrossAttentionInjection(self.module_layers(context.language))

    def cost(self, context: InjectionContext, *, tokens: int, views: float) -> Cost:
        return self.layers_cost(context.language, tokens=tokens, keys=views * context.grid.tokens)

    @classmethod
    def tiny(cls) -> Self:
        return cls(every=1)


class CrossAttentionInjection(GatedInjection):
    """Every view is looked at."""

    def forward(self, x_BTE: Tensor, seen: VisualContext) -> Tensor:
        if slots := int(seen.slots_BT.sum()):
            raise AlignmentError(f"{slots} image placeholders in the text, but cross_attention fills none")
        return x_BTE

    def looked_at(self, seen: VisualContext) -> Tensor:
        return torch.arange(len(seen.views), device=seen.v_KHWE.device)
