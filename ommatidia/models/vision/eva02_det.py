"""EVA-02's plain vision transformer in the form its detectors use (Fang et al., 2023, arXiv 2303.11331, section 2).

Rotary positions on queries and keys, windowed attention with a few global blocks, and a gated MLP with a norm inside.
Shapes: B batch, C colour channels, H rows, W columns, N tokens, D feature channels.
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

Positive = Annotated[int, Field(gt=0)]
_SPAN = 16
"""Rotary positions run over 0..16 along each side, whatever the grid: the length of the pre-training's own."""


class Eva02DetEncoder(PublishedEncoderConfig):
    """The backbone of EVA-02's detectors; without a final norm. The defaults are EVA-02-L.

    ``pretrained_size`` is the image size of the position table, which is resampled to the grid. ``rope``: ``computed``
    makes the rotary tables in float32; ``stored`` keeps them among the weights, as published 16-bit checkpoints do,
    where rounding moves the features by up to 6e-3, and then only one image size fits.
    """

    kind: Literal["eva02_det"] = "eva02_det"
    image_size: ImageSize = (1024, 1024)
    width: Positive = 1024
    depth: Positive = 24
    heads: Positive = 16
    patch: Positive = 16
    window: Positive = 16
    global_blocks: tuple[int, ...] = (2, 5, 8, 11, 14, 17, 20, 23)
    pretrained_size: ImageSize = (224, 224)
    rope: Literal["computed", "stored"] = "computed"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        check_divisible(self.image_size, self.patch, what="eva02_det")
        chosen(self.features, self.depth)
        if self.width % (4 * self.heads):
            raise ConfigError(f"width {self.width}: {self.heads} heads need a multiple of {4 * self.heads}")
        if any(not 0 <= block < self.depth for block in self.global_blocks):
            raise ConfigError(f"global_blocks {list(self.global_blocks)}: there are blocks 0 to {self.depth - 1}")
        return self

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def network(self) -> nn.Module:
        return Eva02Det(self)

    def unread(self) -> tuple[str, ...]:
        copies = r"blocks\.\d+\.attn\.rope\.freqs_(cos|sin)"
        return (copies,) if self.rope == "stored" else (copies, r"rope_(win|glb)\.freqs_(cos|sin)")

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            image_size=(40, 56), width=32, depth=3, heads=2, patch=8, window=2, global_blocks=(1,),
            pretrained_size=(32, 32),
        )  # fmt: skip


class Eva02Det(nn.Module):
    """Pixels to the raw output of the chosen blocks."""

    def __init__(self, config: Eva02DetEncoder) -> None:
        super().__init__()
        self.wanted = chosen(config.features, config.depth)
        self.table = tuple(side // config.patch for side in config.pretrained_size)
        self.pos_embed = nn.Parameter(torch.empty(1, self.table[0] * self.table[1] + 1, config.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, config.width, config.patch, config.patch)})
        self.windows = [0 if index in config.global_blocks else config.window for index in range(config.depth)]
        self.blocks = nn.ModuleList(_Block(config.width, config.heads, window=window) for window in self.windows)
        self.rope_win = self.rope_glb = None
        self.window, self.head_dim = config.window, config.width // config.heads
        if config.rope == "stored":
            rows, columns = (side // config.patch for side in config.image_size)
            self.rope_win = _Table(config.window, config.window, self.head_dim)
            self.rope_glb = _Table(rows, columns, self.head_dim)
        draw(self)
        nn.init.normal_(self.pos_embed, std=0.02)

    @property
    def depth(self) -> int:
        """Blocks that are run."""
        return blocks_run(self.blocks, self.wanted)

    def forward(self, pixels_BCHW: Tensor, between: BlockEdits | None = None) -> Tensor:
        x_BHWD = patches(self.patch_embed["proj"], pixels_BCHW)  # type: ignore[arg-type]
        height, width = x_BHWD.shape[1:3]
        table_HWD = self.pos_embed[0, 1:].unflatten(0, self.table)
        x_BHWD = x_BHWD + resized_table(table_HWD, height, width, antialias=False)
        device = pixels_BCHW.device
        window = self.rope_win() if self.rope_win else turns(self.window, self.window, self.head_dim, device)
        whole = self.rope_glb() if self.rope_glb else turns(height, width, self.head_dim, device)
        given = [window if size else whole for size in self.windows]
        return run_blocks(x_BHWD, self.blocks, self.wanted, between, given=given)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, *, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _GatedMLP(width, width * 8 // 3)

    def forward(self, x_BHWD: Tensor, turns_ND: Tensor) -> Tensor:
        height, width = x_BHWD.shape[1:3]
        inner = self.norm1(x_BHWD)
        if self.window:
            inner = from_windows(self.attn(to_windows(inner, self.window), turns_ND), height, width)
        else:
            inner = self.attn(inner, turns_ND)
        x_BHWD = x_BHWD + inner
        return x_BHWD + self.mlp(self.norm2(x_BHWD))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x_BHWD: Tensor, turns_ND: Tensor) -> Tensor:
        height, width = x_BHWD.shape[1:3]
        q = rotate(split_heads(functional.linear(x_BHWD, self.q_proj.weight, self.q_bias), self.heads), turns_ND)
        k = rotate(split_heads(self.k_proj(x_BHWD), self.heads), turns_ND)
        v = split_heads(functional.linear(x_BHWD, self.v_proj.weight, self.v_bias), self.heads)
        return self.proj(merge_heads(functional.scaled_dot_product_attention(q, k, v), height, width))


class _GatedMLP(nn.Module):
    """SwiGLU with a norm before the last layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden)
        self.w2 = nn.Linear(width, hidden)
        self.ffn_ln = nn.LayerNorm(hidden, eps=1e-6)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        # Tensor cores want rows of 16 bytes, and the published width, 2730, is none: there it is filled up with zeros.
        extra = -self.w1.out_features % 8 if x_BHWD.is_cuda else 0
        inner = functional.silu(wider(self.w1, x_BHWD, rows=extra)) * wider(self.w2, x_BHWD, rows=extra)
        inner = self.ffn_ln(inner[..., : self.w1.out_features])
        return wider(self.w3, functional.pad(inner, (0, extra)), columns=extra)


def wider(layer: nn.Linear, x: Tensor, *, rows: int = 0, columns: int = 0) -> Tensor:
    """The layer with so many zero rows (further outputs, zero) or columns (further inputs, without effect)."""
    if not rows and not columns:
        return layer(x)
    bias = None if layer.bias is None else functional.pad(layer.bias, (0, rows))
    return functional.linear(x, functional.pad(layer.weight, (0, columns, 0, rows)), bias)


class _Table(nn.Module):
    """Rotations kept among the weights, as cosines and sines with every value twice."""

    freqs_cos: Tensor
    freqs_sin: Tensor

    def __init__(self, height: int, width: int, head_dim: int) -> None:
        super().__init__()
        turns_ND = turns(height, width, head_dim)
        self.register_buffer("freqs_cos", turns_ND.real.repeat_interleave(2, -1))
        self.register_buffer("freqs_sin", turns_ND.imag.repeat_interleave(2, -1))

    def forward(self) -> Tensor:
        return torch.complex(self.freqs_cos[:, ::2].float(), self.freqs_sin[:, ::2].float())


def turns(height: int, width: int, head_dim: int, device: torch.device | None = None) -> Tensor:
    """Rotations exp(i * angle) of every position, complex (H * W, head_dim / 2): the row's half, then the column's."""
    count = head_dim // 4
    speeds = 10000.0 ** -(torch.arange(count, device=device, dtype=torch.float32) / count)
    rows = torch.arange(height, device=device, dtype=torch.float32) / height * _SPAN
    columns = torch.arange(width, device=device, dtype=torch.float32) / width * _SPAN
    angles_H, angles_W = torch.outer(rows, speeds), torch.outer(columns, speeds)
    angles = torch.cat([angles_H[:, None].expand(-1, width, -1), angles_W.expand(height, -1, -1)], -1).flatten(0, 1)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, turns_ND: Tensor) -> Tensor:
    """Turn neighbouring channels of (B, heads, N, head_dim) as complex numbers: one product in place of five steps."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns_ND).flatten(-2).to(x.dtype)
