"""The Q-Former of BLIP-2 as a projector: learned queries read the features and become the visual tokens.

Shapes: B batch, H rows, W columns, D feature channels, E language-model width.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.models.projector.projector import ProjectorConfig
from ommatidia.models.querying import QueryingTransformer, querying_cost

Positive = Annotated[int, Field(gt=0)]


class QFormer(ProjectorConfig):
    """LayerNorm of the features, a ``QueryingTransformer`` over them, a Linear to the language width.

    BLIP-2 (arXiv 2301.12597, section 3.1) without its text side and its BERT weights. Geometry is given up: the tokens
    are one row.
    """

    kind: Literal["q_former"] = "q_former"
    queries: Positive = 32
    dim: Positive = 768
    layers: Positive = 12
    heads: Positive = 12
    every: Positive = 2
    """Every how many layers the queries read the features, from the first on."""

    @model_validator(mode="after")
    def _divides(self) -> QFormer:
        if self.dim % self.heads:
            raise ConfigError(f"q_former: dim {self.dim} is no multiple of {self.heads} heads")
        return self

    def out(self, grid: Grid, width: int) -> Grid:
        return Grid(1, self.queries, width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        return _QFormer(self, grid.dim, width)

    def cost(self, grid: Grid, width: int) -> Cost:
        reader = querying_cost(
            self.dim, grid.dim, queries=self.queries, layers=self.layers, every=self.every, keys=grid.tokens
        )
        out = Cost(self.dim * width + width, 2.0 * self.queries * self.dim * width)
        return reader + out + Cost(2 * grid.dim)

    @classmethod
    def tiny(cls) -> Self:
        return cls(queries=5, dim=8, layers=3, heads=2)


class _QFormer(nn.Module):
    def __init__(self, config: QFormer, source: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(source)
        self.reader = QueryingTransformer(
            config.dim, source, queries=config.queries, layers=config.layers, heads=config.heads, every=config.every
        )
        self.out = nn.Linear(config.dim, width)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return self.out(self.reader(self.norm(x_BHWD).flatten(1, 2))).unsqueeze(1)
