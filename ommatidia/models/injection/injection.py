"""The contract of an injection: how many places it takes in the text, and what happens there and inside the decoder.

Shapes: B batch, T tokens, K views, H rows, W columns, E language width.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.grid import Cost, Grid

if TYPE_CHECKING:
    from ommatidia.models.language.language import LanguageModel, LanguageShape


class InjectionConfig(Config, family=True):
    """Names an injection."""

    @abstractmethod
    def placeholders(self, grid: Grid) -> int:
        """Positions of the token sequence that one view with this projected grid occupies."""

    @abstractmethod
    def build(self, grid: Grid, language: LanguageShape) -> Injection: ...

    def cost(self, grid: Grid, language: LanguageShape) -> Cost:
        return Cost()


class Injection(nn.Module, ABC):
    """Puts projected views v_KHWE into the sequence (``forward``) and, in some designs, layers into the decoder."""

    @abstractmethod
    def forward(self, x_BTE: Tensor, slots_BT: Tensor, v_KHWE: Tensor) -> Tensor:
        """Embeddings with the visual places filled. ``slots_BT`` is True at placeholders. Raises AlignmentError."""

    def inside(
        self, language: LanguageModel, slots_BT: Tensor, v_KHWE: Tensor
    ) -> contextlib.AbstractContextManager[None]:
        """Active while the decoder runs on these views: the place for cross-attention layers. Nothing by default."""
        return contextlib.nullcontext()
