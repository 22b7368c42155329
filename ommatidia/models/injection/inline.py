"""Inline injection (LLaVA, Eagle): visual tokens stand in the sequence like words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ommatidia.core.errors import AlignmentError
from ommatidia.core.grid import Grid
from ommatidia.models.injection.injection import Injection, InjectionConfig

if TYPE_CHECKING:
    from ommatidia.models.language.language import LanguageShape


class Inline(InjectionConfig):
    """One position per visual token, row-major, no extra marks."""

    kind: Literal["inline"] = "inline"

    def placeholders(self, grid: Grid) -> int:
        return grid.tokens

    def build(self, grid: Grid, language: LanguageShape) -> Injection:
        return InlineInjection()


class InlineInjection(Injection):
    """Overwrites the placeholders' embeddings. Has no parameters."""

    def forward(self, x_BTE: Tensor, slots_BT: Tensor, v_KHWE: Tensor) -> Tensor:
        places, tokens = int(slots_BT.sum()), v_KHWE[..., 0].numel()
        if places != tokens:
            raise AlignmentError(
                f"{places} image placeholders in the text but {tokens} visual tokens from the encoders"
            )
        return x_BTE.masked_scatter(slots_BT.unsqueeze(-1), v_KHWE.to(x_BTE.dtype))
