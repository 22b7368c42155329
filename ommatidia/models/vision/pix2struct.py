"""Pix2Struct's encoder (Lee et al., 2022, arXiv 2210.03347, section 2): an image of any shape as a budget of patches.

The whole way from pixels to patches runs on the pixels' own device. Module names follow the published checkpoint.
Shapes: B batch, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision.preprocess import HALF, ImageSize, Preprocess, Triple
from ommatidia.models.vision.published import (
    BlockEdits,
    PublishedEncoderConfig,
    blocks_run,
    chosen,
    draw,
    merge_heads,
    run_blocks,
    split_heads,
)

Positive = Annotated[int, Field(gt=0)]


class Pix2StructEncoder(PublishedEncoderConfig):
    """Pixels are standardised per image and resized so that at most ``max_patches`` patches keep their aspect ratio.

    The normalisation that the pixels arrive with is undone first, so it changes nothing. No text is drawn into the
    image. The defaults are Pix2Struct-L; ``last`` is behind its final norm.
    """

    kind: Literal["pix2struct"] = "pix2struct"
    image_size: ImageSize = (1024, 1024)
    max_patches: Positive = 2048
    width: Positive = 1536
    depth: Positive = 18
    heads: Positive = 24
    hidden: Positive = 3968
    patch: Positive = 16
    positions: Positive = 4096
    """Rows of each of the two position tables."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        chosen(self.features, self.depth)
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not divisible by {self.heads} heads")
        rows, columns = patch_grid(*self.image_size, patch=self.patch, budget=self.max_patches)
        if max(rows, columns) >= self.positions:
            raise ConfigError(f"a grid of {rows}x{columns} patches needs more than {self.positions} positions")
        return self

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=HALF, std=HALF)

    def network(self) -> nn.Module:
        return Pix2Struct(self)

    @classmethod
    def tiny(cls) -> Self:
        return cls(image_size=(24, 40), max_patches=16, width=32, depth=3, heads=2, hidden=48, patch=8, positions=16)


class Pix2Struct(nn.Module):
    """Pixels to a grid of patches that keeps the aspect ratio of the pixels."""

    float32_pixels = True

    def __init__(self, config: Pix2StructEncoder) -> None:
        super().__init__()
        self.wanted = chosen(config.features, config.depth)
        self.patch, self.budget = config.patch, config.max_patches
        preprocess = config.preprocess()
        self.mean, self.std = preprocess.mean, preprocess.std
        self.embeddings = _Embeddings(3 * config.patch**2, config.width, config.positions)
        layers = nn.ModuleList(_Layer(config.width, config.heads, config.hidden) for _ in range(config.depth))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.layernorm = nn.RMSNorm(config.width, eps=1e-6)
        draw(self)
        for name, weight in self.named_parameters():
            # Scores are not scaled by the width of a head, so queries are drawn that much smaller, as T5 does.
            if name.endswith("query.weight"):
                nn.init.normal_(weight, std=0.02 * (config.width // config.heads) ** -0.5)

    @property
    def depth(self) -> int:
        """Blocks that are run."""
        return blocks_run(self.encoder["layer"], self.wanted)

    def forward(self, pixels_BCHW: Tensor, between: BlockEdits | None = None) -> Tensor:
        found_BHWD = flat_patches(pixels_BCHW, mean=self.mean, std=self.std, patch=self.patch, budget=self.budget)
        x_BHWD = self.embeddings(found_BHWD)
        x_BHWD = run_blocks(x_BHWD, self.encoder["layer"], self.wanted, between)  # type: ignore[arg-type]
        return x_BHWD if self.wanted else self.layernorm(x_BHWD)


class _Embeddings(nn.Module):
    def __init__(self, values: int, width: int, positions: int) -> None:
        super().__init__()
        self.patch_projection = nn.Linear(values, width)
        self.row_embedder = nn.Embedding(positions, width)
        self.column_embedder = nn.Embedding(positions, width)

    def forward(self, patches_BHWD: Tensor) -> Tensor:
        height, width = patches_BHWD.shape[1:3]
        x_BHWD = self.patch_projection(patches_BHWD.to(self.patch_projection.weight.dtype))
        # Position 0 stands for padding, of which there is none here.
        return x_BHWD + self.column_embedder.weight[1 : width + 1] + self.row_embedder.weight[1 : height + 1, None]


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        names = ("query", "key", "value", "output")
        self.attention = nn.ModuleDict({name: nn.Linear(width, width, bias=False) for name in names})
        self.mlp = nn.ModuleDict({
            "wi_0": nn.Linear(width, hidden, bias=False),
            "wi_1": nn.Linear(width, hidden, bias=False),
            "wo": nn.Linear(hidden, width, bias=False),
        })  # fmt: skip
        self.pre_attention_layer_norm = nn.RMSNorm(width, eps=1e-6)
        self.pre_mlp_layer_norm = nn.RMSNorm(width, eps=1e-6)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        inner = self.pre_attention_layer_norm(x_BHWD)
        q, k, v = (split_heads(self.attention[name](inner), self.heads) for name in ("query", "key", "value"))
        attended = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
        x_BHWD = x_BHWD + self.attention["output"](merge_heads(attended, *x_BHWD.shape[1:3]))
        inner = self.pre_mlp_layer_norm(x_BHWD)
        gate = functional.gelu(self.mlp["wi_0"](inner), approximate="tanh")
        return x_BHWD + self.mlp["wo"](gate * self.mlp["wi_1"](inner))


def patch_grid(rows: int, columns: int, *, patch: int, budget: int) -> tuple[int, int]:
    """(rows, columns) of the largest patch grid within the budget that keeps the aspect ratio of these pixels."""
    scale = math.sqrt(budget * (patch / rows) * (patch / columns))
    height, width = (max(min(math.floor(scale * side / patch), budget), 1) for side in (rows, columns))
    return height, width


def flat_patches(pixels_BCHW: Tensor, *, mean: Triple, std: Triple, patch: int, budget: int) -> Tensor:
    """The patches (B, rows, columns, patch * patch * C) of normalised pixels, channels innermost, in float32.

    Each image is brought back to 0..255, standardised over all its values (a constant one by the smallest deviation
    that its number of values can resolve), and resized with an antialiased bilinear filter.
    """
    pixels_BCHW = pixels_BCHW.float()
    shift, scale = (pixels_BCHW.new_tensor(values)[:, None, None] for values in (mean, std))
    bytes_BCHW = (pixels_BCHW * scale + shift) * 255
    deviation, average = torch.std_mean(bytes_BCHW, (1, 2, 3), correction=0, keepdim=True)
    standard_BCHW = (bytes_BCHW - average) / deviation.clamp_min(bytes_BCHW[0].numel() ** -0.5)
    height, width = patch_grid(*pixels_BCHW.shape[2:], patch=patch, budget=budget)
    resized_BCHW = functional.interpolate(
        standard_BCHW, (height * patch, width * patch), mode="bilinear", align_corners=False, antialias=True
    )
    blocks = resized_BCHW.unflatten(3, (width, patch)).unflatten(2, (height, patch))  # B, C, H, py, W, px
    return blocks.permute(0, 2, 4, 3, 5, 1).flatten(3)
