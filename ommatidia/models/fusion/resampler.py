"""BRAVE's fusion: a few learned queries read the tokens of all encoders from one long bank.

Shapes: K views, M tokens of the bank, S encoders, C width of the bank, Q queries, D their width, E width of the
question's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion.fusion import NO_CONTEXT, Fused, Fusion, FusionConfig, FusionContext
from ommatidia.models.fusion.regions import per_picture
from ommatidia.models.fusion.sketch import Box, Sketch
from ommatidia.models.querying import QueryingTransformer, querying_cost

Positive = Annotated[int, Field(gt=0)]


class Resampler(FusionConfig):
    """Every encoder through its own Linear into one bank of keys and values, read by learned queries (MEQ-Former).

    Grids may be of any sizes; geometry is given up, so the result is one row of ``queries`` tokens. The question, if it
    is read, stands beside the queries in self-attention as one more token. While training, each encoder is dropped from
    the bank with probability ``drop``, never all of them. Blocks are those of ``QueryingTransformer``.
    """

    paper: ClassVar[str] = "BRAVE (arXiv 2404.07204), section 3"
    kind: Literal["resampler"] = "resampler"
    queries: Positive = 160
    dim: Positive = 768
    bank: Positive = 1408
    """Width of keys and values."""
    layers: Positive = 12
    heads: Positive = 12
    every: Positive = 2
    """Every how many layers the queries read the bank, from the first on."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.2
    reads_question: bool = True

    @model_validator(mode="after")
    def _divides(self) -> Resampler:
        if self.dim % self.heads:
            raise ConfigError(f"resampler: dim {self.dim} is no multiple of {self.heads} heads")
        return self

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        if not grids:
            raise ConfigError("resampler: there is no encoder to fuse")
        return Grid(1, self.queries, self.dim)

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        self.out(grids)
        return _Resampler(self, grids, self._words(context))

    def _words(self, context: FusionContext) -> int:
        """Width of what is read of the question; 0: nothing. Raises ConfigError where the context does not say."""
        if not self.reads_question:
            return 0
        if context.question_width is None:
            raise ConfigError("resampler: it reads the question, of unknown width; say it in the context")
        return context.question_width

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        keys, words = sum(grid.tokens for grid in grids.values()), self._words(context)
        reader = querying_cost(
            self.dim, self.bank, queries=self.queries, layers=self.layers, every=self.every, keys=keys,
            words=1 if words else 0,
        )  # fmt: skip
        parameters = sum(grid.dim * self.bank + self.bank for grid in grids.values())
        parameters += words * self.dim + self.dim if words else 0
        flops = sum(2.0 * grid.values * self.bank for grid in grids.values()) + 2.0 * words * self.dim
        return reader + Cost(parameters, flops)

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        lanes = {name: (Box("Linear", f"to {self.bank}"),) for name in grids}
        reader = Box(f"{self.queries} queries", "read one bank of tokens", f"{self.layers} layers")
        return Sketch(reader, lanes, tiles="queries", question=self.reads_question)

    @classmethod
    def tiny(cls) -> Self:
        return cls(queries=5, dim=12, bank=10, layers=2, heads=2, drop=0.0)

    @classmethod
    def tiny_grids(cls) -> dict[str, Grid]:
        return {"left": Grid(4, 4, 6), "right": Grid(3, 2, 10), "long": Grid(1, 7, 8)}


class _Resampler(Fusion):
    def __init__(self, config: Resampler, grids: Mapping[str, Grid], words: int) -> None:
        super().__init__()
        self.drop = config.drop
        self.layers = nn.ModuleDict({name: nn.Linear(grid.dim, config.bank) for name, grid in grids.items()})
        self.words = nn.Linear(words, config.dim) if words else None
        self.reader = QueryingTransformer(
            config.dim, config.bank, queries=config.queries, layers=config.layers, heads=config.heads,
            every=config.every,
        )  # fmt: skip

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        return Fused(self.read(features, views, self.kept(views)).unsqueeze(1))

    def kept(self, views: Views) -> Tensor | None:
        """Which encoders each view keeps, k_KS, drawn anew while training; None: all."""
        if not self.training or not self.drop or len(self.layers) < 2:
            return None
        draw_KS = torch.rand(len(views), len(self.layers), device=views.rows_K.device)
        last_KS = draw_KS == draw_KS.amax(-1, keepdim=True)  # where all would go, one stays
        return (draw_KS >= self.drop) | last_KS

    def read(self, features: Mapping[str, Tensor], views: Views, kept_KS: Tensor | None = None) -> Tensor:
        """The queries' answers a_KQD from the encoders each view keeps."""
        tokens = []
        for name, layer in self.layers.items():
            t_RMC = layer(features[name].flatten(1, 2))
            tokens.append(t_RMC[views.pictures_K] if per_picture(len(t_RMC), views) else t_RMC)
        sees_KM = None
        if kept_KS is not None:
            sizes = torch.tensor([t.shape[1] for t in tokens], device=kept_KS.device)
            sees_KM = kept_KS.repeat_interleave(sizes, dim=1)
        words_K1D = None
        if self.words is not None:
            if views.question_KE is None:
                raise AlignmentError("resampler: the fusion reads the question, but the views bring none")
            words_K1D = self.words(views.question_KE).unsqueeze(1)
        return self.reader(torch.cat(tokens, 1), sees_BM=sees_KM, words_BQD=words_K1D)
