"""Inline injection (LLaVA, Eagle): visual tokens stand in the sequence like words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import View
from ommatidia.models.injection.injection import Injection, InjectionConfig, InjectionContext, VisualContext, place
from ommatidia.models.vision.tiling import TokenLayout

if TYPE_CHECKING:
    pass


class Inline(InjectionConfig):
    """One position per visual token, in the order of the tiling.

    ``row_end`` learns the vector that closes each row where the tiling says so (LLaVA-NeXT and Cambrian-1 call it
    ``image_newline``), drawn from N(0, 1/E).
    """

    kind: Literal["inline"] = "inline"
    row_end: bool = False

    @property
    def ends_rows(self) -> bool:
        return self.row_end

    def token_layout(self, layout: TokenLayout, grid: Grid, views: Sequence[View]) -> TokenLayout:
        return layout

    def build(self, context: InjectionContext) -> Injection:
        return InlineInjection(context.language.width if self.row_end else 0)

    def cost(self, context: InjectionContext, *, tokens: int, views: float) -> Cost:
        return Cost(context.language.width if self.row_end else 0)


class InlineInjection(Injection):
    """Overwrites the placeholders' embeddings."""

    row_end_E: nn.Parameter | None

    def __init__(self, row_end_width: int) -> None:
        super().__init__()
        self.row_end_E = nn.Parameter(torch.randn(row_end_width) * row_end_width**-0.5) if row_end_width else None

    def forward(self, x_BTE: Tensor, seen: VisualContext) -> Tensor:
        return place(x_BTE, seen, self.row_end_E)
