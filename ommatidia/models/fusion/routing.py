"""Routing: for each view a gate picks the experts that the first encoder's tokens then read (MoVA's adapter).

Shapes: K views, R maps (one a view or one an image), H rows, W columns, N = H * W tokens, D channels of the first
encoder, C channels of an expert, X experts, E width of the question's embedding, A heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.attention import Attention, attention_cost
from ommatidia.models.convolution import RegNetStage, regnet_cost
from ommatidia.models.fusion.fusion import NO_CONTEXT, Fused, Fusion, FusionConfig, FusionContext, at_least_two
from ommatidia.models.fusion.regions import cut, per_picture
from ommatidia.models.fusion.resample import Bilinear, ResampleConfig
from ommatidia.models.fusion.sketch import Box, Sketch

Positive = Annotated[int, Field(gt=0)]


class Routing(FusionConfig):
    """The first encoder carries; in each block a gate picks ``top_k`` of the others for the view, and they are read.

    MoVA's MoV-adapter: a gate from the question and the mean token; cross-attention to
    every picked expert with rotary positions on the common grid; self-attention; SwiGLU; then two convolution stages
    with average pooling between. All outputs start at zero, so that the untrained fusion hands on the pooled first
    encoder. MoVA's coarse stage, in which the language model names the experts, is not part of it: all are candidates.
    """

    paper: ClassVar[str] = "MoVA (arXiv 2404.13046), section 3"
    kind: Literal["routing"] = "routing"
    grid: tuple[Positive, Positive] | None = None
    """What comes out; None: the first encoder's own grid, unpooled."""
    top_k: Positive = 3
    """How many experts a view reads at most."""
    blocks: Positive = 3
    heads: Positive = 16
    head_dim: Positive = 64
    stages: Positive = 3
    """Depth of each of the two convolution stages."""
    resample: ResampleConfig = Bilinear()
    """How experts come to the first encoder's grid."""
    reads_question: bool = True

    @model_validator(mode="after")
    def _turns(self) -> Routing:
        if self.head_dim % 4:
            raise ConfigError(f"routing: head_dim {self.head_dim} is no multiple of 4, as rotary positions want")
        return self

    def experts(self, grids: Mapping[str, Grid]) -> dict[str, Grid]:
        """All but the first encoder, on its grid. Raises ConfigError."""
        at_least_two("routing", grids)
        (first, base), *others = grids.items()
        found = {}
        for name, grid in others:
            try:
                found[name] = self.resample.out(grid, base.height, base.width)
            except ConfigError as error:
                raise ConfigError(f"routing: encoder {name!r} to the grid of {first!r}: {error}") from None
        return found

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        self.experts(grids)
        first, base = next(iter(grids.items()))
        if self.grid is None:
            return base
        if self.grid[0] > base.height or self.grid[1] > base.width:
            raise ConfigError(
                f"routing: grid {self.grid[0]}x{self.grid[1]} is finer than {base.height}x{base.width} of {first!r}"
            )
        return base.resized(*self.grid)

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        return _Routing(self, grids, self.out(grids), self.words(context))

    def words(self, context: FusionContext) -> int:
        """Width of what is read of the question; 0: nothing. Raises ConfigError where the context does not say."""
        if not self.reads_question:
            return 0
        if context.question_width is None:
            raise ConfigError("routing: it reads the question, of unknown width; say it in the context")
        return context.question_width

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        """Operations with every expert picked equally often; they differ a little with the widths of the picked."""
        experts, out, base = self.experts(grids), self.out(grids), next(iter(grids.values()))
        dim, n, inner, hidden = base.dim, base.tokens, self.heads * self.head_dim, base.dim * 8 // 3
        gated = self.words(context) + dim
        gate = Cost(gated * dim + dim + dim * len(experts) + len(experts), 2.0 * (gated * dim + dim * len(experts)))
        reading = [
            attention_cost(dim, e.dim, inner=inner, queries=n, keys=n, bias=False, inner_norm=True)
            for e in experts.values()
        ]
        own = attention_cost(dim, inner=inner, queries=n, keys=n, bias=False, inner_norm=True)
        feed = Cost(3 * dim * hidden + 2 * hidden, 6.0 * n * dim * hidden)
        parameters = gate.parameters + own.parameters + feed.parameters + 6 * dim
        parameters += sum(read.parameters + 2 * e.dim for read, e in zip(reading, experts.values(), strict=True))
        flops = gate.flops + own.flops + feed.flops
        flops += sum(read.flops for read in reading) * min(self.top_k / len(experts), 1)
        convolutions = regnet_cost(base, dim, depth=self.stages) + regnet_cost(out, dim, depth=self.stages)
        return Cost(n * dim + self.blocks * parameters, self.blocks * flops) + convolutions

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        first, base = next(iter(grids.items()))
        lanes: dict[str, tuple[Box, ...]] = {first: (Box("query", "and gate"),)}
        for name, grid in self.experts(grids).items():
            moved = grid != grids[name]
            lanes[name] = (Box("bilinear", f"to {base.height}x{base.width}", learned=False),) if moved else ()
        read = Box(f"{self.blocks} blocks", f"gate picks {min(self.top_k, len(grids) - 1)},", "cross-attention")
        pooled = Box("convolutions", "and pooling")
        return Sketch(read, lanes, (pooled,), tiles="enriched", passes=first, question=self.reads_question)

    @classmethod
    def example(cls) -> tuple[FusionConfig, dict[str, Grid]]:
        grids = {"clip": Grid(48, 48, 1024), "dino": Grid(37, 37, 1536), "det": Grid(80, 80, 256)}
        return cls(grid=(24, 24), top_k=1), grids

    @classmethod
    def tiny(cls) -> Self:
        return cls(grid=(2, 2), top_k=2, blocks=2, heads=2, head_dim=4, stages=1)

    @classmethod
    def tiny_grids(cls) -> dict[str, Grid]:
        return {"base": Grid(4, 4, 8), "left": Grid(4, 4, 6), "right": Grid(3, 5, 10)}


class _Routing(Fusion):
    def __init__(self, config: Routing, grids: Mapping[str, Grid], out: Grid, words: int) -> None:
        super().__init__()
        self.first, base = next(iter(grids.items()))
        experts = config.experts(grids)
        self.experts, self.resample, self.reads = tuple(experts), config.resample, bool(words)
        self.size, self.pooled = (base.height, base.width), (out.height, out.width)
        self.positions = nn.Parameter(torch.zeros(base.tokens, base.dim))
        self.blocks = nn.ModuleList(_Block(config, base.dim, experts, words) for _ in range(config.blocks))
        self.before = RegNetStage(base.dim, base.dim, depth=config.stages, passes=True)
        self.after = RegNetStage(base.dim, base.dim, depth=config.stages, passes=True)

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        words_KE = views.question_KE if self.reads else None
        if self.reads and words_KE is None:
            raise AlignmentError("routing: the fusion reads the question, but the views bring none")
        experts = {name: self._aligned(features[name], views).flatten(1, 2) for name in self.experts}
        base_KND = features[self.first].flatten(1, 2) + self.positions
        x_KND = base_KND
        for block in self.blocks:
            x_KND = block(x_KND, experts, words_KE, self.size)
        x_KHWD = self.before(((x_KND + base_KND) / 2).unflatten(1, self.size))
        if self.pooled != self.size:
            pooled = functional.adaptive_avg_pool2d(x_KHWD.permute(0, 3, 1, 2), self.pooled)
            x_KHWD = pooled.permute(0, 2, 3, 1)
        return Fused(self.after(x_KHWD))

    def _aligned(self, x_RHWC: Tensor, views: Views) -> Tensor:
        whole = per_picture(len(x_RHWC), views)
        return cut(x_RHWC, views, *self.size) if whole else self.resample(x_RHWC, *self.size)


class _Block(nn.Module):
    def __init__(self, config: Routing, dim: int, experts: Mapping[str, Grid], words: int) -> None:
        super().__init__()
        heads, head_dim, self.top_k = config.heads, config.head_dim, min(config.top_k, len(experts))
        choice = nn.Linear(dim, len(experts))
        self.gate = nn.Sequential(nn.Linear(words + dim, dim), nn.GELU(), choice)
        self.norm, self.own_norm, self.feed_norm = (nn.LayerNorm(dim) for _ in range(3))
        attentions = {
            name: Attention(dim, grid.dim, heads=heads, head_dim=head_dim, bias=False, inner_norm=True)
            for name, grid in experts.items()
        }
        self.reading = nn.ModuleDict(attentions)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(grid.dim) for name, grid in experts.items()})
        self.own = Attention(dim, heads=heads, head_dim=head_dim, bias=False, inner_norm=True)
        self.feed = _SwiGLU(dim, dim * 8 // 3)
        nn.init.zeros_(choice.weight)
        nn.init.zeros_(choice.bias)
        for attention in (self.own, *attentions.values()):
            nn.init.zeros_(attention.out.weight)

    def forward(
        self, x_KND: Tensor, experts: Mapping[str, Tensor], words_KE: Tensor | None, grid: tuple[int, int]
    ) -> Tensor:
        weights_KX, normed_KND = self.route(x_KND, words_KE), self.norm(x_KND)
        for weight_K, (name, y_KNC) in zip(weights_KX.unbind(-1), experts.items(), strict=True):
            rows = weight_K.nonzero().squeeze(-1)  # only the views that picked this expert pay for it
            if len(rows):
                y_RNC = self.norms[name](y_KNC[rows])
                z_RND = self.reading[name](normed_KND[rows], y_RNC, grid=grid) * weight_K[rows, None, None]
                x_KND = x_KND.index_add(0, rows, z_RND.to(x_KND.dtype))
        x_KND = x_KND + self.own(self.own_norm(x_KND), grid=grid)
        return x_KND + self.feed(self.feed_norm(x_KND))

    def route(self, x_KND: Tensor, words_KE: Tensor | None) -> Tensor:
        """What each expert counts, w_KX: ``top_k`` of them share 1, the others have 0.

        The question is brought to the scale of the tokens: embeddings of language models are small.
        """
        mean_KD = x_KND.mean(1)
        if words_KE is not None:
            mean_KD = torch.cat([functional.layer_norm(words_KE, words_KE.shape[-1:]).to(mean_KD.dtype), mean_KD], -1)
        chances_KX = self.gate(mean_KD).float().softmax(-1)
        best = chances_KX.topk(self.top_k, -1)
        kept = best.values / best.values.sum(-1, keepdim=True)
        return torch.zeros_like(chances_KX).scatter(-1, best.indices, kept)


class _SwiGLU(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.norm, self.down = nn.LayerNorm(hidden), nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.down.weight)

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.down(self.norm(functional.silu(self.gate(x_BND)) * self.up(x_BND)))
