"""Patch info mining: each token of the first encoder asks the finer maps what lies under it (Mini-Gemini).

Shapes: K views, R maps (one a view or one an image), H rows, W columns, N = H * W tokens, M cells of a window,
D channels of the first encoder, C channels of a finer map.
"""

from __future__ import annotations

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
from ommatidia.models.fusion.regions import cut, per_picture
from ommatidia.models.fusion.resample import Bilinear, ResampleConfig
from ommatidia.models.fusion.sketch import Box, Sketch


class PatchMining(FusionConfig):
    """The first encoder's tokens attend to the window of each finer map that lies under them, and keep their count.

    LayerNorm and Linear give query, key and value (one head); the answer is added to the raw token (Mini-Gemini,
    arXiv 2403.18814). With several finer maps their windows form one softmax. ``window`` is the side of a
    window in cells, to which ``resample`` brings the maps; None: every map is a whole multiple of the first grid and
    stays as it is. A finer encoder may see images whole while the first sees tiles: each view then mines its region
    of the map (its HD variant).
    """

    paper: ClassVar[str] = "Mini-Gemini (arXiv 2403.18814), section 3.2"
    kind: Literal["patch_mining"] = "patch_mining"
    window: Annotated[int, Field(gt=0)] | None = None
    resample: ResampleConfig = Bilinear()

    def windows(self, grids: Mapping[str, Grid]) -> dict[str, Grid]:
        """For each finer encoder the rows and columns of a window, and the channels in it. Raises ConfigError."""
        at_least_two("patch_mining", grids)
        (first, query), *others = grids.items()
        found = {}
        for name, grid in others:
            rows, columns = self.window or grid.height // query.height, self.window or grid.width // query.width
            if self.window is None and (grid.height % query.height or grid.width % query.width):
                raise ConfigError(
                    f"patch_mining: grid {grid.height}x{grid.width} of {name!r} is no whole multiple of "
                    f"{query.height}x{query.width} of {first!r}; give the side of a window, e.g. window: 2"
                )
            try:
                mined = self.resample.out(grid, rows * query.height, columns * query.width)
            except ConfigError as error:
                raise ConfigError(f"patch_mining: encoder {name!r}: {error}") from None
            found[name] = Grid(rows, columns, mined.dim)
        return found

    def out(self, grids: Mapping[str, Grid]) -> Grid:
        self.windows(grids)
        return next(iter(grids.values()))

    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        return _Mining(next(iter(grids)), self.out(grids), self.windows(grids), self.resample)

    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        query, windows = self.out(grids), self.windows(grids)
        parameters = 2 * query.dim + query.dim**2 + query.dim
        flops = 2.0 * query.values * query.dim
        for window in windows.values():
            parameters += 2 * (2 * window.dim + window.dim * query.dim + query.dim)
            # Keys and values are never made: queries and answers pass through the two layers instead.
            flops += 4.0 * query.tokens * (window.dim * query.dim + window.tokens * window.dim)
            flops += 2.0 * query.tokens * (window.dim + query.dim)  # what the biases of the keys add to a score
        return Cost(parameters, flops)

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        first = next(iter(grids))
        lanes = {first: (Box("query", "LayerNorm, Linear"),)}
        for name, window in self.windows(grids).items():
            lanes[name] = (Box("key, value", f"windows {window.height}x{window.width}"),)
        return Sketch(Box("attention", "inside each window", learned=False), lanes, tiles="enriched", passes=first)

    @classmethod
    def example(cls) -> tuple[FusionConfig, dict[str, Grid]]:
        return cls(), {"clip": Grid(32, 32, 1024), "convnext": Grid(128, 128, 3072)}

    @classmethod
    def tiny(cls) -> Self:
        return cls(window=2)

    @classmethod
    def tiny_grids(cls) -> dict[str, Grid]:
        return {"first": Grid(4, 4, 6), "fine": Grid(8, 8, 10), "odd": Grid(5, 3, 4)}


class _Normed(nn.Sequential):
    """LayerNorm and Linear under the published names 0 and 1."""

    def __init__(self, source: int, dim: int) -> None:
        super().__init__(nn.LayerNorm(source), nn.Linear(source, dim))

    @property
    def parts(self) -> tuple[nn.LayerNorm, nn.Linear]:
        """Both layers. Raises ConfigError where the Linear was wrapped: only its weights are used, never its call."""
        norm, linear = self
        if not isinstance(linear, nn.Linear):
            raise ConfigError(f"patch_mining: its layers cannot be wrapped in {type(linear).__name__}")
        return cast(nn.LayerNorm, norm), linear


class _Mining(Fusion):
    """Keys and values of a fine map would be far larger than the map, so they are never made.

    With x the map's normalised cells, a score q . (W_k n_k(x) + b_k) is (W_k^T q) . n_k(x) + q . b_k, and the answer
    is W_v applied to the weighted mean of n_v(x): the same numbers for a small part of the operations.
    """

    def __init__(self, first: str, query: Grid, windows: Mapping[str, Grid], resample: ResampleConfig) -> None:
        super().__init__()
        self.first, self.windows, self.resample = first, dict(windows), resample
        self.query = _Normed(query.dim, query.dim)
        self.key, self.value = (
            nn.ModuleDict({name: _Normed(window.dim, query.dim) for name, window in windows.items()}) for _ in range(2)
        )

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        x_KHWD = features[self.first]
        return Fused(x_KHWD + self.mine(features, views))

    def mine(self, features: Mapping[str, Tensor], views: Views) -> Tensor:
        """What the windows answer, m_KHWD."""
        height, width, dim = features[self.first].shape[1:]
        q_KND = self.query(features[self.first]).flatten(1, 2)
        scores, cells = [], []
        for name, window in self.windows.items():
            x_KNMC = self._cells(features[name], views, height, width, window)
            norm, linear = cast(_Normed, self.key[name]).parts
            asked_KNC = q_KND @ linear.weight  # from here on q is only looked at through W_k
            shift_KN1 = asked_KNC @ norm.bias[:, None] + q_KND @ linear.bias[:, None]
            score_KNM = (x_KNMC @ (asked_KNC * norm.weight).unsqueeze(-1)).squeeze(-1) + shift_KN1
            scores.append(score_KNM)
            cells.append(x_KNMC)
        weights_KNM = (torch.cat(scores, -1).float() * dim**-0.5).softmax(-1).to(q_KND.dtype)
        parts = weights_KNM.split([x.shape[2] for x in cells], -1)
        answer = sum(self._answer(*named) for named in zip(self.windows, parts, cells, strict=True))
        return torch.as_tensor(answer).unflatten(1, (height, width))

    def _cells(self, x_RHWC: Tensor, views: Views, height: int, width: int, window: Grid) -> Tensor:
        """The map's normalised cells by the token they lie under: x_KNMC."""
        rows, columns = height * window.height, width * window.width
        whole = per_picture(len(x_RHWC), views)
        x_KHWC = cut(x_RHWC, views, rows, columns) if whole else self.resample(x_RHWC, rows, columns)
        x_KHWC = functional.layer_norm(x_KHWC, x_KHWC.shape[-1:])
        x = x_KHWC.unflatten(2, (width, window.width)).unflatten(1, (height, window.height))
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _answer(self, name: str, weights_KNM: Tensor, x_KNMC: Tensor) -> Tensor:
        norm, linear = cast(_Normed, self.value[name]).parts
        mean_KNC = (weights_KNM.unsqueeze(2) @ x_KNMC).squeeze(2)
        share_KN1 = weights_KNM.sum(-1, keepdim=True)
        return (mean_KNC * norm.weight + share_KN1 * norm.bias) @ linear.weight.T + share_KN1 * linear.bias


def published(state: Mapping[str, Tensor], fine: str) -> dict[str, Tensor]:
    """The mining layers of a Mini-Gemini checkpoint under this module's names, for the finer encoder of this name.

    ``vlm_uni_query_projector`` makes queries, ``vlm_uni_aux_projector`` keys and ``vlm_uni_val_projector`` values; each
    holds its LayerNorm as 0 and its Linear as 1. Other tensors are left out.
    """
    names = {
        "model.vlm_uni_query_projector.": "query.",
        "model.vlm_uni_aux_projector.": f"key.{fine}.",
        "model.vlm_uni_val_projector.": f"value.{fine}.",
    }
    return {
        ours + key.removeprefix(theirs): tensor
        for theirs, ours in names.items()
        for key, tensor in state.items()
        if key.startswith(theirs)
    }
