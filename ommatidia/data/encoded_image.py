"""From an image to the bytes of an image file: those it has, where it has any, or a PNG."""

from __future__ import annotations

import io

from PIL import Image

from ommatidia.core.picture import IMAGE_FORMATS, BytesPicture, FilePicture, SpanPicture
from ommatidia.core.types import Picture

ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Formats that are kept as they are; others become PNG."""


def encode_image(picture: Picture) -> tuple[str, bytes]:
    """Ending and bytes: what is encoded already as it is, what is drawn or reduced as PNG. Raises DataError."""
    data = None
    if isinstance(picture, FilePicture) and picture.at_least is None:
        data = picture.path.read_bytes() if picture.path.is_file() else None
    elif isinstance(picture, BytesPicture):
        data = picture.data
    elif isinstance(picture, SpanPicture):
        data = picture.data()
    if data is not None:
        picture.size()
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            ending = ENDINGS.get(image.format or "")
        if ending is not None:
            return ending, data
    stored = io.BytesIO()
    picture.open().save(stored, "PNG")
    return "png", stored.getvalue()
