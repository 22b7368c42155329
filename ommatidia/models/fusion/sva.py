"""The Spatial Vision Aggregator of Cambrian-1 (arXiv 2406.16860, section 3.2; where the paper and the released code
differ, the code): queries on a grid, each of which looks at the windows of all encoders at its own place.

Names follow the published checkpoint. There ``k`` is an encoder's number, here it is its name; ``g`` and ``d`` are the
numbers of a group and of a layer in both:

| published | here |
|---|---|
| ``mm_projector_aux_k`` | ``adapters.k`` |
| ``vision_query`` | ``query_GC`` |
| ``vision_sampler_g.layers.d`` | ``groups.g.d`` |
| ``<layer>.proj_context``, ``proj_in``, ``norm`` | the same |
| ``<layer>.proj_out.linear_1``, ``linear_2`` | ``proj_out.0``, ``proj_out.2`` |
| ``<layer>.pos_embed_k`` | ``positions.k`` |
| ``<layer>.cross_attn.q_proj``, ``o_proj`` | the same |
| ``<layer>.cross_attn.k_proj_k``, ``v_proj_k`` | ``cross_attn.k_proj.k``, ``cross_attn.v_proj.k`` |

Shapes: K views, H rows, W columns, D channels of an encoder, S rows and columns of an encoder's square grid, L of the
queries, G groups of queries, N = K * L * L queries, Q their width, M cells of a window, C channels inside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion.fusion import NO_CONTEXT, Fused, Fusion, FusionConfig, FusionContext
from ommatidia.models.fusion.resample import Bilinear
from ommatidia.models.fusion.sketch import Box, Sketch
from ommatidia.models.fusion.windows import Windows, WindowSizes, showing, windows

Positive = Annotated[int, Field(gt=0)]

_MOST = 2**15
"""Queries of one call: each is a batch of its own, and CUDA's kernels count batches up to 65535."""


class SVA(FusionConfig):
    """Queries of ``width`` channels on a grid of ``side`` x ``side``; the defaults are those of the final models.

    Every encoder is brought to a square grid (bilinear, float32) of which each query sees a window: ``sides`` names
    the grids' sides, multiples of ``side`` and of every group's; an encoder that is not named gets the multiple nearest
    to its own. Cambrian-1: 24 for SigLIP, CLIP and DINOv2, 96 for ConvNeXt.
    """

    paper: ClassVar[str] = "Cambrian-1 (arXiv 2406.16860), section 3"
    kind: Literal["sva"] = "sva"
    side: Positive = 24
    width: Positive = 1024
    depth: Positive = 3
    """Layers of every group."""
    heads: Positive = 16
    groups: tuple[Positive, ...] = Field((24,), min_length=1)
    """The side of each group of queries. Groups are joined in the channels, on ``side`` by bilinear interpolation."""
    sides: dict[str, Positive] = Field(default_factory=dict)
    context: Literal["first", "shown"] = "first"
    """The global context: the mean of all cells of the first encoder, padding included, as released; or the mean over
    all encoders of the cells that show the image."""
    padded: bool = True
    """Cells beside the image are not looked at. False for images that are stretched or cropped."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.width % self.heads:
            raise ConfigError(f"sva: width {self.width} is not divisible by {self.heads} heads")
        return self

    @property
    def counts_on_padding(self) -> bool:
        return self.padded

    def single(self, name: str) -> FusionConfig:
        """The aggregator over one encoder: as many visual tokens as over all."""
        return self.model_copy(update={"sides": {n: side for n, side in self.sides.items() if n == name}})

    def windowed(self, grids: Mapping[str, Grid]) -> dict[str, int]:
        """The side of every encoder's square grid. Raises ConfigError."""
        if not grids:
            raise ConfigError("sva: there is no encoder to fuse")
        step = math.lcm(self.side, *self.groups)
        for name, side in self.sides.items():
            if name not in grids:
                raise ConfigError(f"sva: sides: {unknown('encoder', name, grids)}")
            if side % step:
                raise ConfigError(f"sva: sides: {side} of {name!r} is no multiple of {step}, which the queries ask for")
        natural = {name: step * max(1, round((grid.tokens**0.5) / step)) for name, grid in grids.items()}
        return {name: self.sides.get(name, side) for name, side in natural.items()}

    def _sizes(self, grids: Mapping[str, Grid], side: int) -> WindowSizes:
        cells = {name: whole // side for name, whole in self.windowed(grids).items()}
        return WindowSizes(side, self.width, self.heads, cells)

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        self.windowed(grids)
        return Grid(self.side, self.side, len(self.groups) * self.width)

    def memory_shape(self, grids: Mapping[str, Grid]) -> WindowSizes:
        """The windows of the final grid, for layers inside the decoder."""
        return self._sizes(grids, self.side)

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        return _Aggregator(
            {name: grid.dim for name, grid in grids.items()},
            self.windowed(grids),
            [self._sizes(grids, side) for side in self.groups],
            self.memory_shape(grids),
            self,
        )

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        total = Cost(len(self.groups) * self.width)
        for name, side in self.windowed(grids).items():
            matrices = grids[name].dim * self.width + self.width**2
            total += Cost(matrices + 4 * self.width, 2.0 * side**2 * matrices)
        for side in self.groups:
            layer = layer_cost(self.width, self._sizes(grids, side), queries=side**2, views=1)
            total += Cost(self.depth * layer.parameters, self.depth * layer.flops)
        return total

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        lanes = {}
        for name, side in self.windowed(grids).items():
            cells = side // self.side
            lanes[name] = (Box("adapter", f"to {side}x{side}x{self.width}", f"windows {cells}x{cells}"),)
        groups = " and ".join(f"{side}x{side}" for side in self.groups)
        return Sketch(Box(f"{groups} queries", f"{self.depth} layers, each looks", "at its own windows"), lanes)

    @classmethod
    def example(cls) -> tuple[FusionConfig, dict[str, Grid]]:
        grids = {"siglip": Grid(27, 27, 1152), "dino": Grid(37, 37, 1536), "convnext": Grid(32, 32, 3072)}
        return cls(sides={"siglip": 24, "dino": 24, "convnext": 96}), grids

    @classmethod
    def tiny(cls) -> Self:
        return cls(side=2, width=8, depth=2, heads=2, groups=(2, 1), sides={"right": 4})


class _Aggregator(Fusion):
    """Adapters, groups of queries, and the layers in which they look."""

    def __init__(
        self,
        widths: Mapping[str, int],
        sides: Mapping[str, int],
        sizes: list[WindowSizes],
        final: WindowSizes,
        config: SVA,
    ) -> None:
        super().__init__()
        self.sides, self.sizes, self.final = dict(sides), sizes, final
        self.context, self.padded = config.context, config.padded
        C = config.width
        self.adapters = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, C), nn.GELU(), nn.Linear(C, C), nn.LayerNorm(C))
                for name, width in widths.items()
            }
        )
        self.query_GC = nn.Parameter(torch.randn(len(sizes), C) * C**-0.5)
        self.groups = nn.ModuleList(nn.ModuleList(SVALayer(C, one) for _ in range(config.depth)) for one in sizes)

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        maps = {name: self.adapters[name](Bilinear()(features[name], side, side)) for name, side in self.sides.items()}
        shown = self._shown(views, next(iter(maps.values())).device)
        context_KC = self._context(maps, shown)
        memory = windows(maps, shown, context_KC, sizes=self.final)
        joined = []
        for query_C, layers, sizes in zip(self.query_GC, self.groups, self.sizes, strict=True):
            looked = memory if sizes.side == self.final.side else windows(maps, shown, context_KC, sizes=sizes)
            x_NC = query_C.repeat(len(looked.views_N), 1)
            for layer in layers:  # type: ignore[attr-defined]
                x_NC = layer(x_NC, looked)
            x_KLLC = x_NC.unflatten(0, (-1, sizes.side, sizes.side))
            joined.append(Bilinear()(x_KLLC, self.final.side, self.final.side))
        return Fused(torch.cat(joined, -1), memory)

    def _shown(self, views: Views, device: torch.device) -> dict[str, Tensor]:
        """shown_KSS of every encoder."""
        pictures = [(1, 1)] * len(views)
        if self.padded:
            pictures = [(height, width) for height, width in views.sizes_K2.tolist()]
        return {name: showing(pictures, side).to(device) for name, side in self.sides.items()}

    def _context(self, maps: Mapping[str, Tensor], shown: Mapping[str, Tensor]) -> Tensor:
        """context_KC."""
        if self.context == "first":
            return next(iter(maps.values())).mean((1, 2))
        means = []
        for name, x_KSSC in maps.items():
            shown_KSS1 = shown[name].unsqueeze(-1)
            means.append((x_KSSC * shown_KSS1).sum((1, 2)) / shown_KSS1.sum((1, 2)))
        return torch.stack(means).mean(0)


class SVALayer(nn.Module):
    """One look of every query at its window, without gate: x + MLP(norm(h + attention(h))), h made of x and context.

    ``zero_init`` lets it start as the identity.
    """

    def __init__(self, query_width: int, sizes: WindowSizes, *, zero_init: bool = False) -> None:
        super().__init__()
        C = sizes.width
        self.proj_context = nn.Linear(C, C, bias=False)
        self.proj_in = nn.Linear(query_width + C, C, bias=False)
        self.positions = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(cells**2, C)) for name, cells in sizes.cells.items() if cells > 1}
        )
        self.cross_attn = _WindowAttention(sizes)
        self.norm = nn.LayerNorm(C)
        self.proj_out = nn.Sequential(nn.Linear(C, C, bias=False), nn.GELU(), nn.Linear(C, query_width, bias=False))
        if zero_init:
            nn.init.zeros_(self.proj_out[2].weight)  # type: ignore[arg-type]

    def forward(self, x_NQ: Tensor, looked: Windows) -> Tensor:
        context_NC = self.proj_context(looked.context_KC)[looked.views_N]
        h_NC = self.proj_in(torch.cat([x_NQ, context_NC], -1))
        cells = {
            name: x_NMC + self.positions[name] if name in self.positions else x_NMC
            for name, x_NMC in looked.cells.items()
        }
        h_NC = self.norm(h_NC + self.cross_attn(h_NC, cells, looked.shown_NM))
        return x_NQ + self.proj_out(h_NC)


class _WindowAttention(nn.Module):
    """Every query attends to the cells of its own windows alone; each encoder has its own keys and values."""

    def __init__(self, sizes: WindowSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.q_proj = _projection(sizes.width)
        self.k_proj = nn.ModuleDict({name: _projection(sizes.width) for name in sizes.cells})
        self.v_proj = nn.ModuleDict({name: _projection(sizes.width) for name in sizes.cells})
        self.o_proj = nn.Linear(sizes.width, sizes.width, bias=False)

    def forward(self, h_NC: Tensor, cells: Mapping[str, Tensor], shown_NM: Tensor) -> Tensor:
        q, k, v = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # N, heads, 1 or M, C / heads
            for x in (
                self.q_proj(h_NC).unsqueeze(1),
                torch.cat([self.k_proj[name](x_NMC) for name, x_NMC in cells.items()], 1),
                torch.cat([self.v_proj[name](x_NMC) for name, x_NMC in cells.items()], 1),
            )
        )
        parts = zip(*(x.split(_MOST) for x in (q, k, v, shown_NM[:, None, None])), strict=True)
        a = torch.cat([functional.scaled_dot_product_attention(*part) for part in parts])
        return self.o_proj(a.flatten(1))


def _projection(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))


def layer_cost(query_width: int, sizes: WindowSizes, *, queries: float, views: float) -> Cost:
    """Parameters of one layer, and operations for this many queries of this many views."""
    C, encoders = sizes.width, len(sizes.cells)
    ends = (query_width + C) * C + C * C + C * query_width  # into the layer, and out of it
    norms = 2 * C * (2 + 2 * encoders)
    positions = sum(cells**2 * C for cells in sizes.cells.values() if cells > 1)
    parameters = C * C + ends + (2 + 2 * encoders) * C * C + norms + positions
    attention = 2.0 * C * C * (2 + 2 * sizes.keys) + 4.0 * sizes.keys * C
    return Cost(parameters, 2.0 * views * C * C + queries * (2.0 * ends + attention))
