"""Base of the encoders whose network is written here, module by module under the names of its published checkpoint.

Their forward passes resample positions and pixels, always in float32, so that any image size works.
Shapes: B batch, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.between import BlockEdits
from ommatidia.models.vision.encoder import ImageEncoderConfig
from ommatidia.models.vision.timm import Features, join
from ommatidia.models.vision.weights import (
    FileWeights,
    HubFileWeights,
    PackageWeights,
    RandomWeights,
    StateDict,
    check_names,
)


class PublishedEncoderConfig(ImageEncoderConfig):
    """A network of ``depth`` equal blocks under published names.

    ``features``: ``last`` is what the published model gives; a number is the raw output of that block, from 0, or from
    the end if negative; several are joined along the channels.
    """

    features: Features = "last"

    @model_validator(mode="after")
    def _loadable(self) -> Self:
        if not isinstance(self.weights, RandomWeights | FileWeights | PackageWeights | HubFileWeights):
            raise ConfigError(
                f"weights: {type(self).model_fields['kind'].default} reads random, file, package or hub_file, "
                f"not {self.weights.to_dict()['kind']!r}"
            )
        return self

    @abstractmethod
    def network(self) -> nn.Module:
        """The whole network, untrained."""

    def unread(self) -> tuple[str, ...]:
        """Patterns of published names that have no part in the result and so no place in the network."""
        return ()

    def published(self, state: StateDict) -> StateDict:
        patterns = re.compile("|".join(self.unread()) or r"(?!)")
        return {name: tensor for name, tensor in state.items() if not patterns.fullmatch(name)}

    def trunk(self, *, pretrained: bool) -> nn.Module:
        network = self.network()
        if pretrained and not isinstance(self.weights, RandomWeights):
            self._load(network, self.weights.tensors())
        return network

    def _load(self, network: nn.Module, state: StateDict) -> None:
        state = self.published(state)
        check_names(state, network.state_dict())
        network.load_state_dict(state)


def chosen(features: Features, depth: int) -> tuple[int, ...]:
    """Indices of the chosen blocks; empty for ``last``. Raises ConfigError."""
    if features == "last":
        return ()
    wanted = (features,) if isinstance(features, int) else tuple(features)
    for index in wanted:
        if not -depth <= index < depth:
            raise ConfigError(f"features: {index} is out of range; there are {depth} blocks, 0 to {depth - 1}")
    return tuple(index % depth for index in wanted)


def blocks_run(blocks: Any, wanted: tuple[int, ...]) -> int:
    """How many of the blocks are run for these features."""
    return max(wanted) + 1 if wanted else len(blocks)


def run_blocks(
    x_BHWD: Tensor,
    blocks: nn.ModuleList,
    wanted: tuple[int, ...],
    between: BlockEdits | None = None,
    *,
    given: Sequence[Tensor] | None = None,
) -> Tensor:
    """The last block's output, or the wanted ones side by side; nothing behind the last wanted block is run.

    ``between``: by number of a block, what x_BHWD becomes behind it. ``given``: what each block takes besides x_BHWD.
    """
    kept: dict[int, Tensor] = {}
    for index, block in enumerate(blocks):
        x_BHWD = block(x_BHWD, given[index]) if given else block(x_BHWD)
        if between is not None and index in between:
            x_BHWD = between[index](x_BHWD)
        if index in wanted:
            kept[index] = x_BHWD
            if len(kept) == len(set(wanted)):
                return join([kept[i] for i in wanted])
    return x_BHWD


def check_divisible(image_size: tuple[int, int], patch: int, *, what: str) -> None:
    """Raises ConfigError when patches do not tile the image."""
    if any(side % patch for side in image_size):
        rows, columns = image_size
        raise ConfigError(f"image_size {rows}x{columns} is not divisible by the patch size {patch} of {what}")


def split_heads(x_BHWD: Tensor, heads: int) -> Tensor:
    """x_BHWD as (B, heads, H * W, D / heads)."""
    return x_BHWD.flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor, height: int, width: int) -> Tensor:
    """The inverse of ``split_heads``."""
    return x.transpose(1, 2).flatten(2).unflatten(1, (height, width))


def to_windows(x_BHWD: Tensor, size: int) -> Tensor:
    """Windows (B * n, size, size, D), row-major; the grid is filled up with zeros below and to the right."""
    height, width = x_BHWD.shape[1:3]
    padded = functional.pad(x_BHWD, (0, 0, 0, -width % size, 0, -height % size))
    return padded.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3).flatten(0, 2)


def from_windows(x: Tensor, height: int, width: int) -> Tensor:
    """The grid of ``height`` x ``width`` that ``to_windows`` cut up."""
    size = x.shape[1]
    rows, columns = -(-height // size), -(-width // size)
    x_BHWD = x.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return x_BHWD[:, :height, :width]


def resized_table(table_HWD: Tensor, height: int, width: int, *, antialias: bool) -> Tensor:
    """A table of position embeddings for another grid: bicubic, in float32, pixel centres aligned."""
    if table_HWD.shape[:2] == (height, width):
        return table_HWD
    table_1DHW = table_HWD.float().permute(2, 0, 1)[None]
    resized = functional.interpolate(
        table_1DHW, (height, width), mode="bicubic", align_corners=False, antialias=antialias
    )
    return resized[0].permute(1, 2, 0).to(table_HWD.dtype)


def draw(network: nn.Module, *, std: float = 0.02) -> None:
    """Draw every matrix and table from a normal distribution; biases are zero and norms the identity."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
            nn.init.normal_(module.weight, std=std)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def patches(projection: nn.Conv2d, pixels_BCHW: Tensor) -> Tensor:
    """x_BHWD of a patch embedding; pixels arrive in float32 and take the projection's own type here."""
    x_BDHW = projection(pixels_BCHW.to(projection.weight.dtype))
    return x_BDHW.permute(0, 2, 3, 1).contiguous()  # or the residual stream of every block is strided, and copied
