"""Segment Anything's image encoder (Kirillov et al., 2023, arXiv 2304.02643): windowed attention, relative positions.

Relative positions are decomposed into rows and columns (Li et al., 2021, arXiv 2112.01526, section 4.1). Module names
follow the checkpoints of transformers. Shapes: B batch, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD, ImageSize, Preprocess
from ommatidia.models.vision.published import (
    BlockEdits,
    PublishedEncoderConfig,
    blocks_run,
    check_divisible,
    chosen,
    draw,
    from_windows,
    merge_heads,
    patches,
    resized_table,
    run_blocks,
    split_heads,
    to_windows,
)
from ommatidia.models.vision.weights import StateDict

Positive = Annotated[int, Field(gt=0)]
_QUERIES = 64
"""Queries whose bias is laid out at once without gradients: the fastest of 64, 256 and 512 on a CPU."""


class SamEncoder(PublishedEncoderConfig):
    """SAM's image encoder. The defaults are SAM-L.

    ``end`` is what stands behind the last block: ``own``, the pre-trained two convolutions, or ``short``, Eagle's one
    of 1x1, which a SAM checkpoint does not hold and which then stays as drawn. ``features`` as numbers are raw block
    outputs before either (Cambrian-1 takes the last, -1). ``unshuffle`` folds so many rows and columns into channels.
    ``pretrained_size`` is the image size of the position tables, which are resampled to the grid.
    """

    kind: Literal["sam"] = "sam"
    image_size: ImageSize = (1024, 1024)
    width: Positive = 1024
    depth: Positive = 24
    heads: Positive = 16
    hidden: Positive = 4096
    patch: Positive = 16
    window: Positive = 14
    global_blocks: tuple[int, ...] = (5, 11, 17, 23)
    pretrained_size: ImageSize = (1024, 1024)
    end: Literal["own", "short"] = "own"
    end_dim: Positive = 256
    unshuffle: Positive = 1

    @model_validator(mode="after")
    def _checked(self) -> Self:
        check_divisible(self.image_size, self.patch, what="sam")
        chosen(self.features, self.depth)
        rows, columns = (side // self.patch for side in self.image_size)
        if rows % self.unshuffle or columns % self.unshuffle:
            raise ConfigError(f"unshuffle {self.unshuffle} does not divide the grid {rows}x{columns}")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not divisible by {self.heads} heads")
        if any(not 0 <= block < self.depth for block in self.global_blocks):
            raise ConfigError(f"global_blocks {list(self.global_blocks)}: there are blocks 0 to {self.depth - 1}")
        return self

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bilinear")

    def network(self) -> nn.Module:
        return Sam(self)

    def _load(self, network: nn.Module, state: StateDict) -> None:
        if self.end == "short" and "neck.conv2.weight" in state:
            drawn = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("neck.")}
            state = {name: tensor for name, tensor in state.items() if not name.startswith("neck.")} | drawn
        super()._load(network, state)

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            image_size=(40, 56), width=32, depth=3, heads=2, hidden=48, patch=8, window=2, global_blocks=(1,),
            pretrained_size=(32, 32), end_dim=12,
        )  # fmt: skip


class Sam(nn.Module):
    """Pixels to the neck's grid, or to the raw output of the chosen blocks."""

    def __init__(self, config: SamEncoder) -> None:
        super().__init__()
        self.wanted, self.unshuffle = chosen(config.features, config.depth), config.unshuffle
        rows, columns = (side // config.patch for side in config.pretrained_size)
        self.pos_embed = nn.Parameter(torch.empty(1, rows, columns, config.width))
        self.patch_embed = nn.ModuleDict({"projection": nn.Conv2d(3, config.width, config.patch, config.patch)})
        self.layers = nn.ModuleList()
        for index in range(config.depth):
            window = 0 if index in config.global_blocks else config.window
            table = (window, window) if window else (rows, columns)
            self.layers.append(_Layer(config.width, config.heads, config.hidden, window=window, table=table))
        self.neck = _Neck(config.width, config.end_dim, short=config.end == "short")
        draw(self)
        nn.init.normal_(self.pos_embed, std=0.02)

    @property
    def depth(self) -> int:
        """Blocks that are run."""
        return blocks_run(self.layers, self.wanted)

    def forward(self, pixels_BCHW: Tensor, between: BlockEdits | None = None) -> Tensor:
        x_BHWD = patches(self.patch_embed["projection"], pixels_BCHW)  # type: ignore[arg-type]
        x_BHWD = x_BHWD + resized_table(self.pos_embed[0], *x_BHWD.shape[1:3], antialias=True)
        x_BHWD = run_blocks(x_BHWD, self.layers, self.wanted, between)
        if not self.wanted:
            x_BHWD = self.neck(x_BHWD)
        return functional.pixel_unshuffle(x_BHWD.permute(0, 3, 1, 2), self.unshuffle).permute(0, 2, 3, 1)


class _Neck(nn.Module):
    def __init__(self, width: int, dim: int, *, short: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, dim, 1, bias=False)
        self.layer_norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.conv2 = None if short else nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.layer_norm2 = None if short else nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        x_BHWD = _float32_norm(self.layer_norm1, self.conv1(x_BHWD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        if self.conv2 is None or self.layer_norm2 is None:
            return x_BHWD
        return _float32_norm(self.layer_norm2, self.conv2(x_BHWD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def _float32_norm(norm: nn.LayerNorm, x_BHWD: Tensor) -> Tensor:
    """The norm with its statistics in float32, in the input's type."""
    weight, bias = norm.weight.float(), norm.bias.float()
    return functional.layer_norm(x_BHWD.float(), norm.normalized_shape, weight, bias, norm.eps).to(x_BHWD.dtype)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, *, window: int, table: tuple[int, int]) -> None:
        super().__init__()
        self.window = window
        self.layer_norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads, table)
        self.layer_norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"lin1": nn.Linear(width, hidden), "lin2": nn.Linear(hidden, width)})

    def forward(self, x_BHWD: Tensor) -> Tensor:
        inner = self.layer_norm1(x_BHWD)
        if self.window:
            inner = from_windows(self.attn(to_windows(inner, self.window)), *x_BHWD.shape[1:3])
        else:
            inner = self.attn(inner)
        x_BHWD = x_BHWD + inner
        return x_BHWD + self.mlp["lin2"](functional.gelu(self.mlp["lin1"](self.layer_norm2(x_BHWD))))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, table: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * table[0] - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * table[1] - 1, width // heads))

    def forward(self, x_BHWD: Tensor) -> Tensor:
        height, width = x_BHWD.shape[1:3]
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x_BHWD).chunk(3, -1))
        grid = q.unflatten(2, (height, width))
        to_rows = torch.einsum("bnhwd,hkd->bnhwk", grid, distances(self.rel_pos_h, height))
        to_columns = torch.einsum("bnhwd,wkd->bnhwk", grid, distances(self.rel_pos_w, width))
        return self.proj(merge_heads(decomposed_attention(q, k, v, to_rows, to_columns), height, width))


def distances(table_LD: Tensor, size: int) -> Tensor:
    """The embedding of every (query, key) distance along a side, (size, size, D), resampled linearly where needed."""
    if table_LD.shape[0] != 2 * size - 1:
        resized = functional.interpolate(table_LD.float().T[None], 2 * size - 1, mode="linear", align_corners=False)
        table_LD = resized[0].T.to(table_LD.dtype)
    position = torch.arange(size, device=table_LD.device)
    return table_LD[position[:, None] - position + size - 1]


def decomposed_attention(q: Tensor, k: Tensor, v: Tensor, to_rows: Tensor, to_columns: Tensor) -> Tensor:
    """Attention over (B, heads, H * W, D) with the bias ``to_rows`` of the key's row plus ``to_columns`` of its column.

    ``to_rows`` is (B, heads, H, W, H), ``to_columns`` (B, heads, H, W, W). The bias of all queries is never laid out.
    With gradients, and on accelerators, it becomes part of the dot product: queries carry it, keys carry which row and
    column they stand in. That is exact and needs no mask, whose gradient would cost the fused kernel. Otherwise it is
    laid out for a few rows of queries at a time, which on a CPU takes half the time of the wider dot product.
    """
    height, width = to_rows.shape[2:4]
    scale = q.shape[-1] ** -0.5
    if q.is_cuda or any(part.requires_grad for part in (q, k, v, to_rows, to_columns)):
        rows = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, 0)
        columns = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
        place = torch.cat([rows, columns], -1).expand(*k.shape[:2], -1, -1)
        # The fused kernels want one width for all three, and a multiple of 8.
        wide_q = torch.cat([q * scale, to_rows.flatten(2, 3), to_columns.flatten(2, 3)], -1)
        extra = -wide_q.shape[-1] % 8
        wide_q, wide_k = (functional.pad(part, (0, extra)) for part in (wide_q, torch.cat([k, place], -1)))
        wide_v = functional.pad(v, (0, height + width + extra))
        wide = functional.scaled_dot_product_attention(wide_q, wide_k, wide_v, scale=1.0)
        return wide[..., : v.shape[-1]]
    step = height if q.is_meta else max(1, _QUERIES // width)
    attended = []
    for first in range(0, height, step):
        some = slice(first, first + step)
        bias = to_rows[:, :, some, :, :, None] + to_columns[:, :, some, :, None, :]
        queries = q[:, :, first * width : (first + step) * width]
        mask = bias.flatten(2, 3).flatten(3)
        attended.append(functional.scaled_dot_product_attention(queries, k, v, attn_mask=mask, scale=scale))
    return torch.cat(attended, 2)
