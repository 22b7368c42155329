"""The projector contract: a visual grid in, a grid of the language model's width out, both known before any weight.

Shapes: B batch, H rows, W columns, D feature channels, E language-model width.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.grid import Cost, Grid


class ProjectorConfig(Config, family=True):
    """Maps visual features to the width of the language model. Weights are drawn from the ambient generator."""

    @abstractmethod
    def out(self, grid: Grid, width: int) -> Grid:
        """The grid of visual tokens, ``width`` wide. Raises ConfigError when ``grid`` does not fit."""

    @abstractmethod
    def build(self, grid: Grid, width: int) -> nn.Module:
        """A module x_BHWD -> v_BHWE with E = ``width``."""

    @abstractmethod
    def cost(self, grid: Grid, width: int) -> Cost:
        """Parameters, and operations for one view."""

    def fitted(self, state: dict[str, Tensor], old: Grid, new: Grid) -> dict[str, Tensor]:
        """The module's tensors as they are on the grid ``old``, made fit for ``new``. Most depend on neither."""
        return state

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()

    @classmethod
    def tiny_grid(cls) -> Grid:
        """A grid that ``tiny()`` can map to a width of 24."""
        return Grid(4, 4, 12)
