"""CLIP's vision transformer the way LLaVA-HR and Eagle run it (arXiv 2403.03003; 2408.15998, section 2).

The class embedding is dropped before the first norm, so it never takes part in attention; there is no final norm.
Shapes: B batch, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD, ImageSize, Preprocess
from ommatidia.models.vision.published import (
    BlockEdits,
    PublishedEncoderConfig,
    blocks_run,
    check_divisible,
    chosen,
    draw,
    merge_heads,
    patches,
    resized_table,
    run_blocks,
    split_heads,
)

Positive = Annotated[int, Field(gt=0)]


class ClipEncoder(PublishedEncoderConfig):
    """CLIP without its class embedding and final norm. The defaults are CLIP-L/14 of 336 px fed 448 px.

    ``pretrained_size`` is the image size of the position table, which is resampled to the grid (bicubic, antialiased).
    ``input_size`` resizes the pixels inside the model (bilinear, corners aligned), for a mixture in which all encoders
    are given one tensor: Eagle's paper says 448 px, its released code computes 336 px.
    """

    kind: Literal["clip"] = "clip"
    image_size: ImageSize = (448, 448)
    input_size: ImageSize | None = None
    """None: the pixels as they come."""
    width: Positive = 1024
    depth: Positive = 24
    heads: Positive = 16
    hidden: Positive = 4096
    patch: Positive = 14
    pretrained_size: ImageSize = (336, 336)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        check_divisible(self.input_size or self.image_size, self.patch, what="clip")
        chosen(self.features, self.depth)
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not divisible by {self.heads} heads")
        return self

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=CLIP_MEAN, std=CLIP_STD)

    def network(self) -> nn.Module:
        return Clip(self)

    def unread(self) -> tuple[str, ...]:
        return (
            r"vision_model\.embeddings\.(class_embedding|position_ids)",
            r"vision_model\.post_layernorm\.(weight|bias)",
            r"(text_model|text_projection|visual_projection)\..*|logit_scale",
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            image_size=(28, 40), input_size=(24, 32), width=32, depth=3, heads=2, hidden=48, patch=8,
            pretrained_size=(32, 32),
        )  # fmt: skip


class Clip(nn.Module):
    """Pixels to the raw output of the chosen blocks."""

    float32_pixels = True

    def __init__(self, config: ClipEncoder) -> None:
        super().__init__()
        self.wanted = chosen(config.features, config.depth)
        self.input_size = config.input_size
        self.table = tuple(side // config.patch for side in config.pretrained_size)
        layers = nn.ModuleList(_Layer(config.width, config.heads, config.hidden) for _ in range(config.depth))
        self.vision_model = nn.ModuleDict({
            "embeddings": nn.ModuleDict({
                "patch_embedding": nn.Conv2d(3, config.width, config.patch, config.patch, bias=False),
                "position_embedding": nn.Embedding(self.table[0] * self.table[1] + 1, config.width),
            }),
            "pre_layrnorm": nn.LayerNorm(config.width),
            "encoder": nn.ModuleDict({"layers": layers}),
        })  # fmt: skip
        draw(self)

    @property
    def depth(self) -> int:
        """Blocks that are run."""
        return blocks_run(self.vision_model.get_submodule("encoder.layers"), self.wanted)

    def forward(self, pixels_BCHW: Tensor, between: BlockEdits | None = None) -> Tensor:
        if self.input_size is not None and pixels_BCHW.shape[2:] != self.input_size:
            pixels_BCHW = functional.interpolate(
                pixels_BCHW.float(), self.input_size, mode="bilinear", align_corners=True
            )
        model = self.vision_model
        x_BHWD = patches(model.get_submodule("embeddings.patch_embedding"), pixels_BCHW)  # type: ignore[arg-type]
        table_HWD = model.get_parameter("embeddings.position_embedding.weight")[1:].unflatten(0, self.table)
        x_BHWD = x_BHWD + resized_table(table_HWD, *x_BHWD.shape[1:3], antialias=True)
        layers = model.get_submodule("encoder.layers")
        return run_blocks(model["pre_layrnorm"](x_BHWD), layers, self.wanted, between)  # type: ignore[arg-type]


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.layer_norm1 = nn.LayerNorm(width)
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(width, width) for name in ("q", "k", "v", "out")})
        self.layer_norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x_BHWD: Tensor) -> Tensor:
        inner = self.layer_norm1(x_BHWD)
        q, k, v = (split_heads(self.self_attn[f"{name}_proj"](inner), self.heads) for name in ("q", "k", "v"))
        attended = merge_heads(functional.scaled_dot_product_attention(q, k, v), *x_BHWD.shape[1:3])
        x_BHWD = x_BHWD + self.self_attn["out_proj"](attended)
        return x_BHWD + self.mlp["fc2"](_quick_gelu(self.mlp["fc1"](self.layer_norm2(x_BHWD))))


def _quick_gelu(x: Tensor) -> Tensor:
    """The approximation that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)
