"""Pictures as ``core`` decodes them: evaluation reads its own files by the same rules as training."""

from __future__ import annotations

from ommatidia.core.picture import (
    SMALLEST_SIDE,
    BytesPicture,
    DrawnPicture,
    FilePicture,
    decode,
    file_digest,
    header_size,
)

__all__ = ["SMALLEST_SIDE", "BytesPicture", "DrawnPicture", "FilePicture", "decode", "file_digest", "header_size"]
