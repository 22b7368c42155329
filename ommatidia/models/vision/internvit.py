"""InternViT-6B, the vision encoder of InternVL 1.5 and NVLM: RMSNorm, normalised queries and keys, LayerScale.

Chen et al., "How Far Are We to GPT-4V?" (2404.16821), section 3.2. Module names follow the published files. Its small
sister, InternViT-300M, is a plain transformer and comes from timm.
Shapes: B batch, C colour channels, H rows, W columns, N tokens, D feature channels, K heads.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision.encoder import ImageEncoderConfig
from ommatidia.models.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD, ImageSize, Preprocess
from ommatidia.models.vision.timm import Features, join
from ommatidia.models.vision.weights import FileWeights, FolderWeights, HubWeights, RandomWeights, check_names

Positive = Annotated[int, Field(gt=0)]


class InternVitEncoder(ImageEncoderConfig):
    """Patch tokens of InternViT-6B without the class token; positions are interpolated to ``image_size``.

    ``features``: a number is the raw output of that block, from 0, or from the end if negative; ``last`` is the last
    block, behind which the model has no norm; several are joined along the channels.
    """

    kind: Literal["internvit"] = "internvit"
    image_size: ImageSize = (448, 448)
    features: Features = "last"
    dim: Positive = 3200
    depth: Positive = 45
    heads: Positive = 25
    hidden: Positive = 12800
    """Width of the MLP."""
    patch: Positive = 14
    native: Positive = 448
    """Side in pixels of the position table."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        rows, columns = self.image_size
        if rows % self.patch or columns % self.patch:
            raise ConfigError(f"image_size {rows}x{columns} is not divisible by the patch size {self.patch}")
        if self.dim % self.heads:
            raise ConfigError(f"dim {self.dim} is not divisible by heads {self.heads}")
        for index in self._indices():
            if not 0 <= index < self.depth:
                raise ConfigError(f"features: {self.features} is out of range; there are {self.depth} blocks")
        if not isinstance(self.weights, RandomWeights | FileWeights | FolderWeights | HubWeights):
            kind = self.weights.to_dict()["kind"]
            raise ConfigError(f"weights: internvit reads random, file, folder or hub, not {kind!r}")
        return self

    def _indices(self) -> list[int]:
        wanted = [-1] if self.features == "last" else self.features
        return [i if i >= 0 else i + self.depth for i in ([wanted] if isinstance(wanted, int) else wanted)]

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def trunk(self, *, pretrained: bool) -> nn.Module:
        trunk = InternVit(self, self._indices())
        if pretrained and not isinstance(self.weights, RandomWeights):
            wanted = trunk.state_dict()
            # Blocks above the last chosen one are in the file, and not in the trunk; everything else must fit.
            above = tuple(f"encoder.layers.{i}." for i in range(max(self._indices()) + 1, self.depth))
            state = {name: t for name, t in self.weights.tensors().items() if not (above and name.startswith(above))}
            check_names(state, wanted)
            trunk.load_state_dict(state)
        return trunk

    @classmethod
    def tiny(cls) -> Self:
        return cls(dim=32, depth=3, heads=2, hidden=48, patch=8, native=32, image_size=(32, 48), features=-2)


class InternVit(nn.Module):
    """The blocks up to the last chosen one."""

    def __init__(self, config: InternVitEncoder, indices: list[int]) -> None:
        super().__init__()
        self.indices = indices
        self.embeddings = _Embeddings(config)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(_Block(config) for _ in range(max(indices) + 1))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        x_BND, (height, width) = self.embeddings(pixels_BCHW)
        outputs: dict[int, Tensor] = {}
        for index, block in enumerate(self.encoder.get_submodule("layers").children()):
            x_BND = block(x_BND)
            if index in self.indices:
                outputs[index] = x_BND[:, 1:].unflatten(1, (height, width))
        return join([outputs[index] for index in self.indices])


class _Embeddings(nn.Module):
    def __init__(self, config: InternVitEncoder) -> None:
        super().__init__()
        self.side = config.native // config.patch
        self.class_embedding = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.patch_embedding = nn.Conv2d(3, config.dim, config.patch, config.patch)
        self.position_embedding = nn.Parameter(torch.randn(1, self.side**2 + 1, config.dim) * 0.02)

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x_BDHW = self.patch_embedding(pixels_BCHW)
        height, width = x_BDHW.shape[2:]
        class_B1D = self.class_embedding.expand(len(x_BDHW), -1, -1)
        x_BND = torch.cat([class_B1D, x_BDHW.flatten(2).transpose(1, 2)], 1)
        return x_BND + self._positions(height, width).to(x_BND.dtype), (height, width)

    def _positions(self, height: int, width: int) -> Tensor:
        if (height, width) == (self.side, self.side):
            return self.position_embedding
        table_1DHW = self.position_embedding[:, 1:].unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2).float()
        table_1DHW = functional.interpolate(table_1DHW, (height, width), mode="bicubic", align_corners=False)
        return torch.cat([self.position_embedding[:, :1].float(), table_1DHW.flatten(2).transpose(1, 2)], 1)


class _Block(nn.Module):
    def __init__(self, config: InternVitEncoder) -> None:
        super().__init__()
        self.attn = _Attention(config.dim, config.heads)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(config.dim, config.hidden), act=nn.GELU(), fc2=nn.Linear(config.hidden, config.dim)
            )
        )
        self.norm1, self.norm2 = nn.RMSNorm(config.dim, eps=1e-6), nn.RMSNorm(config.dim, eps=1e-6)
        self.ls1, self.ls2 = (nn.Parameter(torch.full((config.dim,), 0.1)) for _ in range(2))

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.attn(self.norm1(x_BND)) * self.ls1
        return x_BND + self.mlp(self.norm2(x_BND)) * self.ls2


class _Attention(nn.Module):
    """Queries and keys are normalised over all heads together."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.q_norm, self.k_norm = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)

    def forward(self, x_BND: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BND).chunk(3, -1)
        q_BKND, k_BKND, v_BKND = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.q_norm(q), self.k_norm(k), v)
        )
        y_BKND = functional.scaled_dot_product_attention(q_BKND, k_BKND, v_BKND)
        return self.proj(y_BKND.transpose(1, 2).flatten(2))
