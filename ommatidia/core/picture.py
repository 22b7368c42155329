"""Images that are decoded when needed: from a file, from bytes, or drawn. Bad images are refused, never repaired.

What every image promises: an upright RGB image of at least 2 x 2 pixels. EXIF orientation is applied, an alpha
channel is dropped (not blended), palettes are looked up, gray is copied to three channels, 16-bit gray keeps its upper
8 bits.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, ImageOps

from ommatidia.core.errors import DataError
from ommatidia.core.files import file_digest
from ommatidia.core.image_damage import check_bytes, is_damage, without_stray_bytes

SMALLEST_SIDE = 2
"""Pixels. A side of one pixel is a broken download or a tracking pixel, never an image worth a question."""

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Every image of a data set is opened with this list. Other formats of Pillow start programs (EPS: Ghostscript) or have
decoders that few people test."""

_JPEG = frozenset({"JPEG", "MPO"})
_FORMATS = "JPEG, PNG, WebP, GIF, BMP or TIFF"
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)
"""What Pillow's readers raise at damaged headers."""
_ORIENTATION_TAG = 0x0112


class Decoded(Image.Image):
    """An RGB image as its decoder left it: Pillow copies it when it first works on it, as it does with its files.

    Whoever only reads the bytes, as torch's resizing does, spares that copy.
    """

    _pixels_HWX: np.ndarray | None = None  # an unpickled one is Pillow's

    def __init__(self, pixels_HWX: np.ndarray) -> None:
        super().__init__()
        self._mode, self._size = "RGB", (pixels_HWX.shape[1], pixels_HWX.shape[0])
        self._pixels_HWX = pixels_HWX

    @property
    def pixels(self) -> np.ndarray | None:
        """HWX: red, green, blue and one unused byte a pixel; None as soon as Pillow has a copy that may change."""
        return self._pixels_HWX

    def load(self) -> Any:
        if self._pixels_HWX is not None:
            pixels_HWX, self._pixels_HWX = self._pixels_HWX, None
            self.im = Image.frombytes("RGB", self.size, pixels_HWX, "raw", "RGBX").im
        return super().load()


def decode(data: bytes, *, name: str, at_least: int | None = None) -> Image.Image:
    """Bytes of one image to RGB; ``name`` is what errors call it.

    ``at_least`` lets a JPEG be decoded at the smallest scale of 1, 1/2, 1/4, 1/8 at which both sides have at least so
    many pixels (libjpeg's eighths in between are slower than decoding in full). It is faster and blurs differently from
    decoding in full and resizing; other formats ignore it.

    Raises DataError: not an image, truncated, a side below 2 pixels, CMYK, more than one frame.
    """
    with _opened(data, name) as image:
        orientation = _orientation(image)
        factor = _factor(image, at_least)
        check_bytes(data, image)
        rgb = _from_jpeg(data, image, factor) if image.format in _JPEG else None
        if rgb is None:
            if factor > 1:
                image.draft("RGB", (image.width // factor, image.height // factor))
            # A global switch of Pillow's, which other libraries set: it fills what is missing with gray.
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            image.load()
            rgb = _to_rgb(image, name)
    if orientation != 1:
        rgb.getexif()[_ORIENTATION_TAG] = orientation
        ImageOps.exif_transpose(rgb, in_place=True)
    return rgb


def header_size(data: bytes | Path, *, name: str, at_least: int | None = None) -> tuple[int, int]:
    """(height, width) of what ``decode`` gives, from the header alone. Raises DataError."""
    with _opened(data, name) as image:
        turned = _orientation(image) in (5, 6, 7, 8)
        width, height = _reduced(image, _factor(image, at_least))
    return (width, height) if turned else (height, width)


@contextlib.contextmanager
def _opened(data: bytes | Path, name: str) -> Iterator[Image.Image]:
    """One encoded image with its header read; whatever is wrong with it, then or later, is a DataError."""
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=IMAGE_FORMATS) as image:
            _refuse(image, name)
            yield image
    except Image.UnidentifiedImageError:
        empty = not (data if isinstance(data, bytes) else data.stat().st_size)
        raise DataError(f"{name}: {'an empty file' if empty else 'not an image'}; expected {_FORMATS}") from None
    except FileNotFoundError as error:
        raise DataError(f"{name}: {_reason(error)}; expected {_FORMATS}") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: too large an image ({_reason(error)}); expected a smaller one: reduce it") from None
    except _UNREADABLE as error:
        raise DataError(
            f"{name}: broken or truncated image ({_reason(error)}); expected a complete {_FORMATS}"
        ) from None


def _orientation(image: Image.Image) -> int:
    """The turn that is still to be applied. BMP knows none, and Pillow turns a TIFF itself."""
    return 1 if image.format in ("BMP", "TIFF") else int(image.getexif().get(_ORIENTATION_TAG, 1))


def _refuse(image: Image.Image, name: str) -> None:
    """Raise DataError for what the header alone shows."""
    width, height = image.size
    if min(width, height) < SMALLEST_SIDE:
        raise DataError(f"{name}: {width} x {height} pixels; expected at least {SMALLEST_SIDE} x {SMALLEST_SIDE}")
    if image.mode == "CMYK":
        raise DataError(
            f"{name}: CMYK colours, whose meaning depends on a printer profile; expected RGB or gray. "
            'Convert it first: PIL.Image.open(path).convert("RGB").save(path)'
        )
    # A camera's MPO file holds previews behind its one real image, which comes first.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise DataError(f"{name}: animated or multi-page, {frames} frames; expected a single image")


def _factor(image: Image.Image, at_least: int | None) -> int:
    """How much smaller an image may be decoded."""
    if at_least is None or image.format not in _JPEG:
        return 1
    least = max(at_least, SMALLEST_SIDE)
    return next((factor for factor in (8, 4, 2) if min(_reduced(image, factor)) >= least), 1)


def _reduced(image: Image.Image, factor: int) -> tuple[int, int]:
    """(width, height) that libjpeg gives."""
    return -(-image.width // factor), -(-image.height // factor)


def _from_jpeg(data: bytes, image: Image.Image, factor: int) -> Image.Image | None:
    """A JPEG through libjpeg-turbo, or None where Pillow should judge it."""
    width, height = _reduced(image, factor)
    for complete in (lambda: data, lambda: without_stray_bytes(data)):
        try:
            # Pillow keeps four bytes a pixel: handing over three would cost the time that this decoder saves.
            return Decoded(simplejpeg.decode_jpeg(complete(), "RGBX", min_height=height, min_width=width))
        except ValueError as error:  # also raised for harmless oddities, such as a few bytes between markers
            if is_damage(str(error), data):
                raise
    return None


def lost_colours(data: bytes, *, name: str) -> str | None:
    """Why an image that decodes to one colour may have had more, in words; None: it had no more, as far as is seen."""
    with _opened(data, name) as image:
        deep = any("16" in str(tile[-1]) for tile in getattr(image, "tile", ())) or image.mode.startswith("I;16")
        if "A" in image.getbands() or "transparency" in image.info:
            return "what it shows is in its alpha channel, which is dropped: blend it with a background first"
        if deep:
            return "its 16-bit values differ in their lower 8 bits at most, which are dropped: scale them first"
    return None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB":
        return image.copy()
    if image.mode.startswith("I;16"):
        upper = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(upper).convert("RGB")
    if image.mode in ("I", "F", "LAB"):
        raise DataError(f"{name}: pixels of Pillow mode {image.mode!r}; expected 8 or 16 bits a channel, RGB or gray")
    return image.convert("RGBA").convert("RGB") if "transparency" in image.info else image.convert("RGB")


def _reason(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
    return " ".join(text.split()).lower()


@dataclass(frozen=True, slots=True)
class FilePicture:
    """An image in a file, known by the SHA-256 of its bytes."""

    path: Path
    at_least: int | None = None
    """See ``decode``. It changes the pixels, and so the digest."""

    @property
    def digest(self) -> str:
        """Raises DataError when the file cannot be read."""
        content = file_digest(self.path)
        if self.at_least is None:
            return content
        return hashlib.sha256(f"{content}, halved to {self.at_least}".encode()).hexdigest()

    def size(self) -> tuple[int, int]:
        """(height, width). Raises DataError."""
        return header_size(self.path, name=str(self.path), at_least=self.at_least)

    def open(self) -> Image.Image:
        """The RGB image. Raises DataError."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: {_reason(error)}; expected {_FORMATS}") from None
        return decode(data, name=str(self.path), at_least=self.at_least)


@dataclass(frozen=True, slots=True)
class BytesPicture:
    """An image held as encoded bytes, known by their SHA-256; ``name`` is what errors call it."""

    data: bytes
    name: str = "image bytes"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def size(self) -> tuple[int, int]:
        """(height, width). Raises DataError."""
        return header_size(self.data, name=self.name)

    def open(self) -> Image.Image:
        """The RGB image. Raises DataError."""
        return decode(self.data, name=self.name)


@dataclass(frozen=True, slots=True)
class SpanPicture:
    """An image in some bytes of a larger file, a member of a shard; known by their SHA-256."""

    path: Path
    offset: int
    length: int
    """Bytes."""
    name: str
    """What errors call it."""

    def data(self) -> bytes:
        """The encoded bytes. Raises DataError when the file has become shorter."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.length)
        except OSError as error:
            raise DataError(f"{self.path}: {_reason(error)}; expected a file that can be read") from None
        if len(data) != self.length:
            raise DataError(f"{self.name}: {len(data)} of {self.length} bytes at offset {self.offset} are there")
        return data

    @property
    def digest(self) -> str:
        """Raises DataError when the file cannot be read."""
        return hashlib.sha256(self.data()).hexdigest()

    def size(self) -> tuple[int, int]:
        """(height, width). Raises DataError."""
        return header_size(self.data(), name=self.name)

    def open(self) -> Image.Image:
        """The RGB image. Raises DataError."""
        return decode(self.data(), name=self.name)


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """An image that is drawn on demand, known by a digest of the values that define the drawing."""

    digest: str
    draw: Callable[[], Image.Image]
    drawn: tuple[int, int]
    """(height, width) in pixels."""

    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.drawn

    def open(self) -> Image.Image:
        """The RGB image; the same every time."""
        return self.draw()
