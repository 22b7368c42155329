"""Preprocess: a picture becomes the pixels that one encoder was trained to see. An encoder owns its transform."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BeforeValidator, Field
from torch import Tensor

from ommatidia.core.config import Config

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Fit = Literal["pad", "stretch", "crop"]
Triple = tuple[float, float, float]


def _as_pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


Positive = Annotated[int, Field(gt=0)]
ImageSize = Annotated[tuple[Positive, Positive], BeforeValidator(_as_pair)]
"""(rows, columns) in pixels; one number stands for a square."""

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
HALF: Triple = (0.5, 0.5, 0.5)

_FILTERS: dict[str, Image.Resampling] = {name.lower(): Image.Resampling[name] for name in Image.Resampling.__members__}


class Preprocess(Config):
    """Resize to ``size`` (rows, columns), scale to 0..1, subtract ``mean``, divide by ``std``.

    ``fit`` says what happens to the aspect ratio: ``pad`` keeps all of the picture and fills the rest with the mean
    colour (zeros after normalising), ``stretch`` ignores it, ``crop`` keeps the largest centred part that fits.
    """

    size: ImageSize
    fit: Fit = "pad"
    interpolation: Interpolation = "bicubic"
    mean: Triple = IMAGENET_MEAN
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (
        IMAGENET_STD
    )

    def __call__(self, image: Image.Image) -> Tensor:
        """The picture as float32 pixels_CHW. Any picture size works, 1x1 included."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        rows, columns = self.size
        box: tuple[float, float, float, float] | None = None
        top, left, height, width = 0, 0, rows, columns
        if self.fit == "pad":
            scale = min(rows / image.height, columns / image.width)
            height, width = max(1, round(image.height * scale)), max(1, round(image.width * scale))
            top, left = (rows - height) // 2, (columns - width) // 2
        elif self.fit == "crop":
            # Cropping in source coordinates: a 1 x 10000 picture must not be blown up before most of it is cut away.
            scale = min(image.height / rows, image.width / columns)
            cut_x, cut_y = (image.width - columns * scale) / 2, (image.height - rows * scale) / 2
            box = (cut_x, cut_y, cut_x + columns * scale, cut_y + rows * scale)
        if box is not None or image.size != (width, height):
            image = image.resize((width, height), _FILTERS[self.interpolation], box=box)
        # Few passes over the picture: one reorders bytes into floats, two scale them, (x / 255 - mean) / std.
        pixels_HWC = torch.from_numpy(np.array(image))
        pixels_CHW = pixels_HWC.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        shift_C11, scale_C11 = _in_bytes(self.mean, self.std)
        pixels_CHW.sub_(shift_C11).div_(scale_C11)
        if (height, width) == (rows, columns):
            return pixels_CHW
        canvas_CHW = torch.zeros(3, rows, columns)
        canvas_CHW[:, top : top + height, left : left + width] = pixels_CHW
        return canvas_CHW


@lru_cache(maxsize=64)
def _in_bytes(mean: Triple, std: Triple) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel on the scale of bytes, 0..255."""
    return torch.tensor([255.0 * m for m in mean])[:, None, None], torch.tensor([255.0 * s for s in std])[:, None, None]
