"""Deformable attention: each token of the first encoder looks at a few learned points of the other maps.

Shapes: K views, R maps (one a view or one an image), N tokens of the first encoder, D their channels, C width of the
attention, A heads, L levels (the other encoders), P points a head and level, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion.fusion import NO_CONTEXT, Fused, Fusion, FusionConfig, FusionContext, at_least_two
from ommatidia.models.fusion.regions import centres, per_picture
from ommatidia.models.fusion.sketch import Box, Sketch

Positive = Annotated[int, Field(gt=0)]


class Deformable(FusionConfig):
    """Patch info mining with free points in place of windows: Eagle's own baseline, by Deformable DETR's operator.

    A query, LayerNorm and Linear of a token, says by two Linear layers where it looks around its own place in each
    other map and how much each look counts; looks are bilinear, and zero outside. The answer is added to the raw token.
    Grids may be of any sizes. Points start on rings: head m looks in the direction 2 pi m / heads, point p at p cells.
    """

    paper: ClassVar[str] = "Eagle (arXiv 2408.15998), section 3.3; Deformable DETR (arXiv 2010.04159), section 4.1"
    kind: Literal["deformable"] = "deformable"
    dim: Positive | None = None
    """Width of the attention; None: the first encoder's."""
    heads: Positive = 16
    points: Positive = 4
    learned_points: bool = True
    """Whether tokens may move their points; otherwise the rings stay, and only their weights are learned."""
    zero_init: bool = True
    """Start as the first encoder alone; Deformable DETR and Mini-Gemini do not."""

    def _dim(self, grids: Mapping[str, Grid]) -> int:
        at_least_two("deformable", grids)
        first, query = next(iter(grids.items()))
        dim = self.dim or query.dim
        if dim % self.heads:
            raise ConfigError(
                f"deformable: the width {dim}{'' if self.dim else f' of {first!r}'} is no multiple of "
                f"{self.heads} heads; give another dim or heads"
            )
        return dim

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        self._dim(grids)
        return next(iter(grids.values()))

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        return _Deformable(self, grids, self._dim(grids))

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        dim, query, *others = self._dim(grids), *grids.values()
        looks = self.heads * len(others) * self.points
        scores = looks * (3 if self.learned_points else 1)
        parameters = 2 * query.dim + query.dim * dim + dim + dim * scores + scores  # query, points and weights
        parameters += dim * dim + dim + dim * query.dim + query.dim  # values and answer, for all levels
        parameters += sum(grid.dim * dim + dim + 2 * dim for grid in others)
        flops = 2.0 * query.tokens * (2 * query.dim * dim + dim * scores)
        flops += sum(2.0 * grid.tokens * (grid.dim * dim + dim * dim) for grid in others)
        return Cost(parameters, flops + 2.0 * query.tokens * len(others) * self.points * dim)

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        first, *others = grids
        lanes = {first: (Box("query", "LayerNorm, Linear"),)}
        lanes |= {name: (Box("value", f"Linear to {self._dim(grids)}"),) for name in others}
        look = Box("look around", f"{self.heads} heads, {self.points} points", "bilinear")
        return Sketch(look, lanes, tiles="enriched", passes=first)

    @classmethod
    def example(cls) -> tuple[FusionConfig, dict[str, Grid]]:
        return cls(), {"clip": Grid(32, 32, 1024), "convnext": Grid(64, 64, 1536)}

    @classmethod
    def tiny(cls) -> Self:
        return cls(dim=8, heads=2, points=2)

    @classmethod
    def tiny_grids(cls) -> dict[str, Grid]:
        return {"first": Grid(4, 4, 6), "fine": Grid(8, 8, 10), "odd": Grid(3, 5, 4)}


class _Deformable(Fusion):
    ring: Tensor | None
    sampling_offsets: nn.Linear | None

    def __init__(self, config: Deformable, grids: Mapping[str, Grid], dim: int) -> None:
        super().__init__()
        (self.first, query), *others = grids.items()
        self.heads, self.points = config.heads, config.points
        looks = self.heads * len(others) * self.points
        self.query = nn.Sequential(nn.LayerNorm(query.dim), nn.Linear(query.dim, dim))
        self.levels = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(grid.dim, dim), nn.LayerNorm(dim)) for name, grid in others}
        )
        self.attention_weights = nn.Linear(dim, looks)
        self.value_proj, self.output_proj = nn.Linear(dim, dim), nn.Linear(dim, query.dim)
        ring = rings(self.heads, len(others), self.points)
        self.sampling_offsets = nn.Linear(dim, 2 * looks) if config.learned_points else None
        self.register_buffer("ring", None if config.learned_points else ring.flatten(), persistent=False)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        still = [self.attention_weights, *([self.output_proj] if config.zero_init else [])]
        for layer in (*still, *([self.sampling_offsets] if self.sampling_offsets is not None else [])):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.sampling_offsets is not None:
            with torch.no_grad():
                self.sampling_offsets.bias.copy_(ring.flatten())

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        x_KHWD = features[self.first]
        height, width = x_KHWD.shape[1:3]
        q_KNC = self.query(x_KHWD).flatten(1, 2)
        shape = (self.heads, len(self.levels), self.points)
        weights = (
            self.attention_weights(q_KNC).float().unflatten(-1, (shape[0], -1)).softmax(-1).unflatten(-1, shape[1:])
        )
        offsets = self._offsets(q_KNC).unflatten(-1, (*shape, 2))  # A, L, P, xy in cells of the level
        answers = []
        for level, (name, layer) in enumerate(self.levels.items()):
            x_RHWC = features[name]
            whole = per_picture(len(x_RHWC), views)
            v_RHWC = self.value_proj(layer(x_RHWC))
            centre = centres(height, width, views, whole=whole).flatten(1, 2)[:, :, None, None]
            size = centre.new_tensor([x_RHWC.shape[2], x_RHWC.shape[1]])
            places_KNAP2 = centre + offsets[..., level, :, :] / size
            v_KHWC = v_RHWC[views.pictures_K] if whole else v_RHWC
            answers.append(sample(v_KHWC, places_KNAP2, weights[..., level, :]))
        answer_KNC = torch.stack(answers).sum(0).to(q_KNC.dtype)
        return Fused(x_KHWD + self.output_proj(answer_KNC).unflatten(1, (height, width)))

    def _offsets(self, q_KNC: Tensor) -> Tensor:
        if self.sampling_offsets is not None:
            return self.sampling_offsets(q_KNC).float()
        return cast(Tensor, self.ring)


def rings(heads: int, levels: int, points: int) -> Tensor:
    """Where points start, in cells around the own place: r_ALP2 on square rings of radius 1 to ``points``."""
    angle_A = torch.arange(heads) * (2 * math.pi / heads)
    direction_A2 = torch.stack([angle_A.cos(), angle_A.sin()], -1)
    direction_A2 = direction_A2 / direction_A2.abs().amax(-1, keepdim=True)
    radius_P = torch.arange(1.0, points + 1)
    return (direction_A2[:, None, None] * radius_P[:, None]).repeat(1, levels, 1, 1)


def sample(v_KHWC: Tensor, places_KNAP2: Tensor, weights_KNAP: Tensor) -> Tensor:
    """The weighted sum of bilinear looks: s_KNC in float32. Places are fractions (x, y) of the map, zero outside it.

    Each head looks at its own C / A channels.
    """
    views, _, heads, _ = weights_KNAP.shape
    v = v_KHWC.float().permute(0, 3, 1, 2).unflatten(1, (heads, -1)).flatten(0, 1)  # K*A, C/A, H, W
    places = 2 * places_KNAP2.transpose(1, 2).flatten(0, 1) - 1  # K*A, N, P, xy
    looks = functional.grid_sample(v, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    weights = weights_KNAP.transpose(1, 2).flatten(0, 1).unsqueeze(-1)  # K*A, N, P, 1
    summed = looks.permute(0, 2, 1, 3) @ weights  # K*A, N, C/A, 1
    return summed.squeeze(-1).unflatten(0, (views, heads)).transpose(1, 2).flatten(2)
