"""The bare patch embedding, a control: the trunk only cuts the image into patches; all that is learned is the neck.

Shapes: B batch, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision.encoder import ImageEncoderConfig
from ommatidia.models.vision.preprocess import HALF, Preprocess


class PatchesEncoder(ImageEncoderConfig):
    """Raw pixels of each ``patch`` x ``patch`` square as one vector of 3 * patch * patch channels; no parameters."""

    kind: Literal["patches"] = "patches"
    patch: Annotated[int, Field(gt=0)] = 16

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if any(side % self.patch for side in self.image_size):
            rows, columns = self.image_size
            raise ConfigError(f"image_size: {rows}x{columns} is not divisible by patch {self.patch}")
        return self

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=HALF, std=HALF)

    def trunk(self, *, pretrained: bool) -> nn.Module:
        return _Unfold(self.patch)

    @classmethod
    def tiny(cls) -> Self:
        return cls(image_size=(16, 24), patch=4)


class _Unfold(nn.Module):
    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return functional.pixel_unshuffle(pixels_BCHW, self.patch).permute(0, 2, 3, 1).contiguous()
