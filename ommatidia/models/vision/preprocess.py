"""Preprocess: an image becomes the pixels that one encoder was trained to see. An encoder owns its transform."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional

from ommatidia.core.config import Config
from ommatidia.core.picture import Decoded

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Fit = Literal["pad", "stretch", "crop", "pad_first", "crop_last", "stretch_first"]
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

_LARGEST = 2**25
"""Pixels of an image in between; more would be a matter of memory rather than of seeing."""


class Preprocess(Config):
    """Resize to ``size`` (rows, columns), scale to 0..1, subtract ``mean``, divide by ``std``.

    ``fit`` says what happens to the aspect ratio: ``pad`` keeps all of the image and fills the rest with the mean
    colour (zeros after normalising), ``stretch`` ignores it, ``crop`` keeps the largest centred part that fits.
    ``pad_first`` and ``crop_last`` do so the other way round, as LLaVA, Cambrian-1 and Eagle do in their modes ``pad``
    and ``square``: the image is filled up with the mean colour as bytes and then resized, or resized and then cut.
    ``stretch_first`` is ``stretch`` by Pillow, as LLaVA-NeXT and SigLIP were trained: the very bytes.
    """

    size: ImageSize
    fit: Fit = "pad"
    interpolation: Interpolation = "bicubic"
    mean: Triple = IMAGENET_MEAN
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (
        IMAGENET_STD
    )

    def __call__(self, image: Image.Image) -> Tensor:
        """The image as float32 pixels_CHW. Any image size works, 1x1 included."""
        return self._normalised(self._shaped(_Opened(image)))

    def _shape(self) -> tuple[Any, ...]:
        """What the bytes depend on before they are normalised."""
        return self.size, self.fit, self.interpolation, self._fill() if self.fit == "pad_first" else None

    def _fill(self) -> tuple[int, int, int]:
        red, green, blue = (min(max(int(255 * mean), 0), 255) for mean in self.mean)
        return red, green, blue

    def _shaped(self, decoded: _Opened) -> Tensor:
        """The image as bytes_HWC in its final size; with ``pad`` without its border."""
        image = decoded.image
        rows, columns = self.size
        resample = _FILTERS[self.interpolation]
        if self.fit == "pad_first":
            return _bytes(_pad_and_resize(image, rows, columns, resample, self._fill()))
        if self.fit == "stretch_first":
            return _bytes(image if image.size == (columns, rows) else image.resize((columns, rows), resample))
        if self.fit == "crop_last":
            return _bytes(_resize_and_crop(image, rows, columns, resample))
        if self.fit == "crop":
            return _bytes(image.resize((columns, rows), resample, box=_centred(image, rows, columns)))
        height, width = rows, columns
        if self.fit == "pad":
            scale = min(rows / image.height, columns / image.width)
            height, width = max(1, round(image.height * scale)), max(1, round(image.width * scale))
        return _resized(decoded, height, width, self.interpolation)

    def _normalised(self, bytes_HWC: Tensor) -> Tensor:
        # Few passes over the image: one reorders bytes into floats, two scale them, (x / 255 - mean) / std.
        height, width = bytes_HWC.shape[:2]
        whole = (height, width) == self.size
        canvas_CHW = torch.empty(3, *self.size) if whole else torch.zeros(3, *self.size)
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        pixels_CHW = canvas_CHW[:, top : top + height, left : left + width]
        shift_C11, scale_C11 = _in_bytes(self.mean, self.std)
        pixels_CHW.copy_(bytes_HWC.permute(2, 0, 1)).sub_(shift_C11).div_(scale_C11)
        return canvas_CHW


def prepare_all(image: Image.Image, transforms: Mapping[str, Preprocess]) -> dict[str, Tensor]:
    """pixels_CHW for every name, as each transform alone would give them.

    Equal transforms are computed once and give the same tensor; those that differ in mean and std alone share the
    resized image.
    """
    decoded = _Opened(image)
    shaped: dict[tuple[Any, ...], Tensor] = {}
    made: dict[Preprocess, Tensor] = {}
    for transform in transforms.values():
        if transform not in made:
            shape = transform._shape()
            if shape not in shaped:
                shaped[shape] = transform._shaped(decoded)
            made[transform] = transform._normalised(shaped[shape])
    return {name: made[transform] for name, transform in transforms.items()}


def _bytes(image: Image.Image) -> Tensor:
    """bytes_HWC of an RGB image."""
    return torch.from_numpy(np.array(image))


class _Opened:
    """An RGB image, and its bytes as a tensor, taken out of Pillow once however many transforms want them."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image if image.mode == "RGB" else image.convert("RGB")

    @cached_property
    def pixels(self) -> Tensor:
        """bytes_HWC, or what the decoder gave, bytes_HWX with a fourth one unused."""
        held_HWX = self.image.pixels if isinstance(self.image, Decoded) else None
        return _bytes(self.image) if held_HWX is None else torch.from_numpy(held_HWX)


def _resized(decoded: _Opened, height: int, width: int, interpolation: Interpolation) -> Tensor:
    """bytes_HWC of the image at another size.

    Torch resizes bytes by Pillow's own method several times faster; about one byte in three hundred differs, by one
    level. Where a published checkpoint is to see the very bytes it was trained on, the fits ``pad_first``,
    ``crop_last`` and ``stretch_first`` go through Pillow.
    """
    if decoded.image.size == (width, height):
        return decoded.pixels[..., :3]
    if interpolation not in ("bilinear", "bicubic"):
        return _bytes(decoded.image.resize((width, height), _FILTERS[interpolation]))
    bytes_1CHW = decoded.pixels.permute(2, 0, 1)[None]  # four channels are resized as fast as three
    resized = functional.interpolate(bytes_1CHW, (height, width), mode=interpolation, antialias=True)
    return resized[0, :3].permute(1, 2, 0)


def _centred(image: Image.Image, rows: int, columns: int) -> tuple[float, float, float, float]:
    """The largest centred box of the shape rows x columns, in source coordinates.

    A 1 x 10000 image must not be blown up before most of it is cut away.
    """
    scale = min(image.height / rows, image.width / columns)
    cut_x, cut_y = (image.width - columns * scale) / 2, (image.height - rows * scale) / 2
    return cut_x, cut_y, cut_x + columns * scale, cut_y + rows * scale


def _resize_and_crop(image: Image.Image, rows: int, columns: int, resample: Image.Resampling) -> Image.Image:
    """Resize until the image just covers rows x columns, then cut its centre out."""
    if image.height * columns <= image.width * rows:
        height, width = rows, int(rows * image.width / image.height)
    else:
        height, width = int(columns * image.height / image.width), columns
    if height * width > _LARGEST:  # cut first: the same image up to rounding
        return image.resize((columns, rows), resample, box=_centred(image, rows, columns))
    top, left = (height - rows) // 2, (width - columns) // 2
    resized = image if image.size == (width, height) else image.resize((width, height), resample)
    return resized.crop((left, top, left + columns, top + rows))


def _pad_and_resize(
    image: Image.Image, rows: int, columns: int, resample: Image.Resampling, fill: tuple[int, int, int]
) -> Image.Image:
    """Centre the image on a canvas of the shape rows : columns and resize it.

    Equal, byte for byte, to one resize of the whole canvas, which for a long thin image would fill the memory:
    resizing goes along the rows first, so strips of rows give the same bytes one after another.
    """
    width = max(image.width, round(image.height * columns / rows))
    height = max(image.height, round(image.width * rows / columns))
    left, top = (width - image.width) // 2, (height - image.height) // 2
    canvas = Image.new("RGB", (columns, height), fill)
    step = max(1, _LARGEST // width)
    for first in range(0, image.height, step):
        last = min(first + step, image.height)
        strip = Image.new("RGB", (width, last - first), fill)
        strip.paste(image.crop((0, first, image.width, last)), (left, 0))
        canvas.paste(strip.resize((columns, last - first), resample), (0, top + first))
    return canvas.resize((columns, rows), resample)


@lru_cache(maxsize=64)
def _in_bytes(mean: Triple, std: Triple) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel on the scale of bytes, 0..255."""
    return torch.tensor([255.0 * m for m in mean])[:, None, None], torch.tensor([255.0 * s for s in std])[:, None, None]
