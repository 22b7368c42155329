"""The classic fusions: none (one encoder), channel concatenation and sequence append (both as Eagle compares them).

Shapes: B batch, H rows, W columns, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion.fusion import (
    NO_CONTEXT,
    Align,
    Fused,
    Fusion,
    FusionConfig,
    FusionContext,
    GridFusionConfig,
    agree,
)
from ommatidia.models.fusion.sketch import Box, Sketch

Positive = Annotated[int, Field(gt=0)]


class NoFusion(GridFusionConfig):
    """One encoder, passed on; ``grid`` may still resample it."""

    kind: Literal["none"] = "none"

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        if len(grids) != 1:
            names = ", ".join(repr(name) for name in grids) or "none"
            raise ConfigError(
                f"none: exactly one encoder is wanted, got {len(grids)} ({names}); "
                "use channel_concat or sequence_append"
            )
        return next(iter(self.aligned(grids).values()))

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        self.out(grids)
        return _Single(Align(self, self.aligned(grids)))

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        return Cost()

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        return Sketch(Box("none", "passed on", learned=False), self.resampling(grids), tiles="enriched")

    @classmethod
    def example(cls) -> tuple[FusionConfig, dict[str, Grid]]:
        return cls(), {"clip": Grid(32, 32, 1024)}

    @classmethod
    def tiny_grids(cls) -> dict[str, Grid]:
        return {"only": Grid(4, 4, 6)}


class ChannelConcat(GridFusionConfig):
    """Features of the same place stand side by side in the channels: tokens stay, width adds up (Eagle's choice)."""

    paper: ClassVar[str] = "Eagle (arXiv 2408.15998), section 3.3"
    kind: Literal["channel_concat"] = "channel_concat"
    norm: bool = False
    """A LayerNorm per encoder first: channel sizes of unlike encoders differ by orders of magnitude. Eagle has none."""

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        aligned = self.aligned(grids)
        agree("channel_concat", aligned, by="shape")
        first = next(iter(aligned.values()))
        return first.with_dim(sum(grid.dim for grid in aligned.values()))

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        self.out(grids)
        aligned = self.aligned(grids)
        norms = [nn.LayerNorm(grid.dim) if self.norm else nn.Identity() for grid in aligned.values()]
        return _Concat(Align(self, aligned), nn.ModuleDict(dict(zip(aligned, norms, strict=True))), axis=-1)

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        return Cost(2 * self.out(grids).dim if self.norm else 0)

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        norm = (Box("LayerNorm"),) if self.norm else ()
        lanes = {name: (*boxes, *norm) for name, boxes in self.resampling(grids).items()}
        return Sketch(Box("concatenate", "along the channels", learned=False), lanes, tiles="channels")


class SequenceAppend(GridFusionConfig):
    """Grids stand one below the other: width stays, tokens add up. Encoders need one number of columns.

    Encoders of unlike widths each get their own Linear to ``dim`` (None: the widest); where all agree and ``dim`` is
    None, nothing is learned.
    """

    paper: ClassVar[str] = "Eagle (arXiv 2408.15998), section 3.3"
    kind: Literal["sequence_append"] = "sequence_append"
    dim: Positive | None = None

    def _width(self, aligned: Mapping[str, Grid]) -> tuple[int, bool]:
        widths = {grid.dim for grid in aligned.values()}
        dim = self.dim or max(widths)
        return dim, self.dim is not None or len(widths) > 1

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        aligned = self.aligned(grids)
        agree("sequence_append", aligned, by="width")
        first = next(iter(aligned.values()))
        return Grid(sum(grid.height for grid in aligned.values()), first.width, self._width(aligned)[0])

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        self.out(grids)
        aligned = self.aligned(grids)
        dim, projects = self._width(aligned)
        layers = [nn.Linear(grid.dim, dim) if projects else nn.Identity() for grid in aligned.values()]
        return _Concat(Align(self, aligned), nn.ModuleDict(dict(zip(aligned, layers, strict=True))), axis=1)

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        aligned = self.aligned(grids)
        dim, projects = self._width(aligned)
        if not projects:
            return Cost()
        parameters = sum(grid.dim * dim + dim for grid in aligned.values())
        return Cost(parameters, sum(2.0 * grid.values * dim for grid in aligned.values()))

    def own_tokens(self, grids: Mapping[str, Grid]) -> dict[str, tuple[slice, slice]]:
        found, first = {}, 0
        for name, grid in self.aligned(grids).items():
            found[name] = slice(first, first + grid.height), slice(None)
            first += grid.height
        return found

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        dim, projects = self._width(self.aligned(grids))
        linear = (Box("Linear", f"to {dim}"),) if projects else ()
        lanes = {name: (*boxes, *linear) for name, boxes in self.resampling(grids).items()}
        return Sketch(Box("append", "one below the other", learned=False), lanes, tiles="rows")


class _Single(Fusion):
    def __init__(self, align: Align) -> None:
        super().__init__()
        self.align = align

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        return Fused(self.align(features)[0])


class _Concat(Fusion):
    """Align, one layer per encoder, concatenate along ``axis`` of x_BHWD."""

    def __init__(self, align: Align, layers: nn.ModuleDict, *, axis: int) -> None:
        super().__init__()
        self.align, self.layers, self.axis = align, layers, axis

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        aligned = self.align(features)
        return Fused(
            torch.cat([layer(x_BHWD) for layer, x_BHWD in zip(self.layers.values(), aligned, strict=True)], self.axis)
        )
