"""Interleaving: the tokens of several encoders take turns, position by position.

Shapes: K views, H rows, W columns, S encoders, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion.fusion import NO_CONTEXT, Align, Fused, Fusion, FusionContext, GridFusionConfig, agree
from ommatidia.models.fusion.sketch import Box, Sketch


class Interleave(GridFusionConfig):
    """Tokens of the same place stand one after another in the sequence: first encoder, second encoder, next place.

    Interleaved-MoF with its Linear adapters left to the projector. Encoders of unlike widths each get their own Linear
    to ``dim`` (None: the widest); where all agree and ``dim`` is None, nothing is learned. As a grid, each column
    becomes as many columns as there are encoders, so that tilings that cut rows or columns still work.
    """

    paper: ClassVar[str] = "Eyes Wide Shut (arXiv 2401.06209), section 4"
    kind: Literal["interleave"] = "interleave"
    dim: Annotated[int, Field(gt=0)] | None = None

    def _width(self, aligned: Mapping[str, Grid]) -> tuple[int, bool]:
        widths = {grid.dim for grid in aligned.values()}
        return self.dim or max(widths), self.dim is not None or len(widths) > 1

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        aligned = self.aligned(grids)
        agree("interleave", aligned, by="shape")
        first = next(iter(aligned.values()))
        return Grid(first.height, first.width * len(aligned), self._width(aligned)[0])

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        self.out(grids)
        aligned = self.aligned(grids)
        dim, projects = self._width(aligned)
        layers = {name: nn.Linear(grid.dim, dim) if projects else nn.Identity() for name, grid in aligned.items()}
        return _Turns(Align(self, aligned), nn.ModuleDict(layers))

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        aligned = self.aligned(grids)
        dim, projects = self._width(aligned)
        if not projects:
            return Cost()
        parameters = sum(grid.dim * dim + dim for grid in aligned.values())
        return Cost(parameters, sum(2.0 * grid.values * dim for grid in aligned.values()))

    def own_tokens(self, grids: Mapping[str, Grid]) -> dict[str, tuple[slice, slice]]:
        return {name: (slice(None), slice(turn, None, len(grids))) for turn, name in enumerate(grids)}

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        dim, projects = self._width(self.aligned(grids))
        linear = (Box("Linear", f"to {dim}"),) if projects else ()
        lanes = {name: (*boxes, *linear) for name, boxes in self.resampling(grids).items()}
        return Sketch(Box("take turns", "place by place", learned=False), lanes, tiles="columns")


class _Turns(Fusion):
    def __init__(self, align: Align, layers: nn.ModuleDict) -> None:
        super().__init__()
        self.align, self.layers = align, layers

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        pairs = zip(self.layers.values(), self.align(features), strict=True)
        y_KHWSD = torch.stack([layer(x_KHWD) for layer, x_KHWD in pairs], dim=3)
        return Fused(y_KHWSD.flatten(2, 3))
