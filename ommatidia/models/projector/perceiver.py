"""The Perceiver resampler of Flamingo: learned latents look at all features, and at one another, again and again.

Shapes: B batch, H rows, W columns, M features, N latents, D channels, E language-model width.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.grid import Cost, Grid
from ommatidia.models.attention import Attention, attention_cost
from ommatidia.models.projector.projector import ProjectorConfig

Positive = Annotated[int, Field(gt=0)]


class Perceiver(ProjectorConfig):
    """``queries`` latents, each layer attending to features and latents together; then a Linear to the language width.

    Flamingo (arXiv 2204.14198) in the sizes of OpenFlamingo: features keep their width, heads of 64,
    feed-forward of four times the width with GELU, no biases. One layer is MM1's attention pooling. Geometry is given
    up: the tokens are one row.
    """

    kind: Literal["perceiver"] = "perceiver"
    queries: Positive = 64
    layers: Positive = 6
    heads: Positive = 8
    head_dim: Positive = 64

    def out(self, grid: Grid, width: int) -> Grid:
        return Grid(1, self.queries, width)

    def build(self, grid: Grid, width: int) -> nn.Module:
        return _Perceiver(self, grid.dim, width)

    def cost(self, grid: Grid, width: int) -> Cost:
        dim, n = grid.dim, self.queries
        read = attention_cost(
            dim, inner=self.heads * self.head_dim, queries=n, keys=grid.tokens + n, bias=False
        )  # fmt: skip
        layer = Cost(read.parameters + 8 * dim * dim + 6 * dim, read.flops + 16.0 * n * dim * dim)
        parameters = n * dim + self.layers * layer.parameters + 2 * dim + dim * width + width
        return Cost(parameters, self.layers * layer.flops + 2.0 * n * dim * width)

    @classmethod
    def tiny(cls) -> Self:
        return cls(queries=5, layers=2, heads=2, head_dim=4)


class _Perceiver(nn.Module):
    def __init__(self, config: Perceiver, dim: int, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(config.queries, dim))
        self.layers = nn.ModuleList(_Layer(dim, config.heads, config.head_dim) for _ in range(config.layers))
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, width)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        x_BMD = x_BHWD.flatten(1, 2)
        latents_BND = self.latents.repeat(len(x_BMD), 1, 1)
        for layer in self.layers:
            latents_BND = layer(latents_BND, x_BMD)
        return self.out(self.norm(latents_BND)).unsqueeze(1)


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.feature_norm, self.latent_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads=heads, head_dim=head_dim, bias=False)
        self.feed = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim, bias=False), nn.GELU(), nn.Linear(4 * dim, dim, bias=False)
        )

    def forward(self, latents_BND: Tensor, x_BMD: Tensor) -> Tensor:
        asking = self.latent_norm(latents_BND)
        latents_BND = latents_BND + self.attention(asking, torch.cat([self.feature_norm(x_BMD), asking], 1))
        return latents_BND + self.feed(latents_BND)
