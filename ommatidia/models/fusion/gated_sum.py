"""A sum of encoders in which the image decides how much each of them counts.

Shapes: K views, H rows, W columns, S encoders, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion.fusion import (
    NO_CONTEXT,
    Align,
    Fused,
    Fusion,
    FusionContext,
    GridFusionConfig,
    agree,
    at_least_two,
)
from ommatidia.models.fusion.sketch import Box, Sketch


class GatedSum(GridFusionConfig):
    """LayerNorm and Linear to one width per encoder, then a sum whose weights the pooled features choose, per view.

    The gate starts at zero, so that an untrained sum is the mean of the encoders (``softmax``) or half of each
    (``sigmoid``, which lets all count or none). Ours: the plainest mixture of experts over a whole view.
    """

    kind: Literal["gated_sum"] = "gated_sum"
    dim: Annotated[int, Field(gt=0)] | None = None
    """Width of the sum; None: the widest encoder's."""
    gate: Literal["softmax", "sigmoid"] = "softmax"

    def _dim(self, aligned: Mapping[str, Grid]) -> int:
        return self.dim or max(grid.dim for grid in aligned.values())

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        at_least_two("gated_sum", grids)
        aligned = self.aligned(grids)
        agree("gated_sum", aligned, by="shape")
        return next(iter(aligned.values())).with_dim(self._dim(aligned))

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        self.out(grids)
        aligned = self.aligned(grids)
        return _GatedSum(Align(self, aligned), aligned, self._dim(aligned), self.gate)

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        aligned = self.aligned(grids)
        dim, count, tokens = self._dim(aligned), len(aligned), next(iter(aligned.values())).tokens
        parameters = sum(2 * grid.dim + grid.dim * dim + dim for grid in aligned.values())
        flops = sum(2.0 * grid.values * dim for grid in aligned.values())
        return Cost(parameters + count * dim * count + count, flops + 2.0 * count * dim * (count + tokens))

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        dim = self._dim(self.aligned(grids))
        linear = Box("LayerNorm, Linear", f"to {dim}")
        lanes = {name: (*boxes, linear) for name, boxes in self.resampling(grids).items()}
        return Sketch(Box("weighted sum", f"{self.gate} gate", "from pooled features"), lanes)


class _GatedSum(Fusion):
    def __init__(self, align: Align, aligned: Mapping[str, Grid], dim: int, gate: str) -> None:
        super().__init__()
        self.align, self.softmax = align, gate == "softmax"
        self.layers = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(g.dim), nn.Linear(g.dim, dim)) for name, g in aligned.items()}
        )
        self.gate = nn.Linear(len(aligned) * dim, len(aligned))
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        pairs = zip(self.layers.values(), self.align(features), strict=True)
        x_SKHWD = torch.stack([layer(x_KHWD) for layer, x_KHWD in pairs])
        logits_KS = self.gate(x_SKHWD.mean((2, 3)).transpose(0, 1).flatten(1)).float()
        weights_KS = logits_KS.softmax(-1) if self.softmax else logits_KS.sigmoid()
        return Fused(torch.einsum("skhwd,ks->khwd", x_SKHWD, weights_KS.to(x_SKHWD.dtype)))
