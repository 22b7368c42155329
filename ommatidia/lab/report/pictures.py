"""Example images as data URIs, made smaller when they would make the page heavy."""

from __future__ import annotations

import base64
import io

from PIL import Image, UnidentifiedImageError

from ommatidia.core.errors import RunError
from ommatidia.core.picture import IMAGE_FORMATS

PAGE_BYTES = 1_400_000
"""What all images of a page may weigh together, before base64 adds a third."""
PICTURE_BYTES = 120_000


def data_uri(png: bytes, *, of: int) -> str:
    """The image as a ``data:`` URI; ``of`` is how many images share the page. Small ones are embedded unchanged.

    Raises RunError when the bytes are no image.
    """
    limit = min(PICTURE_BYTES, PAGE_BYTES // max(of, 1))
    if png.startswith(b"\x89PNG\r\n\x1a\n") and len(png) <= limit:
        return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    try:
        image = Image.open(io.BytesIO(png), formats=IMAGE_FORMATS).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise RunError(f"an example image of the report is no readable image: {error}") from error
    for side in (640, 480, 320, 200, 120, 64):
        small = image.copy()
        small.thumbnail((side, side))
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=82)
        if buffer.tell() <= limit:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
