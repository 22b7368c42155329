"""Share of images with a hole in the middle that are refused, by format and size of the hole. Prints JSON.

python -m benchmarks.damaged_images [--files 500]

Photograph-like images of 256 x 192 pixels are written in each format; then some bytes at a random place between 20 %
and 95 % of the file are zeroed, or overwritten with random ones, in so many files each. A file whose bytes or pixels
stay as they were does not count. None of the files before may be refused; ``milliseconds`` is what one takes to open.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import time
from typing import Any

import numpy as np
from PIL import Image

from ommatidia.core.errors import DataError
from ommatidia.core.picture import BytesPicture

ROWS, COLUMNS = 192, 256
IMAGES = 20
HOLES = (1, 4, 16, 64, 512)
"""Bytes."""
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("JPEG", {"quality": 75}),
    "JPEG, optimised tables": ("JPEG", {"quality": 90, "optimize": True}),
    "JPEG, restarts": ("JPEG", {"quality": 75, "restart_marker_rows": 1}),
    "JPEG, progressive": ("JPEG", {"quality": 85, "progressive": True}),
    "PNG": ("PNG", {}),
    "WebP, lossy": ("WEBP", {"quality": 80}),
    "WebP, lossless": ("WEBP", {"lossless": True}),
    "GIF": ("GIF", {}),
    "TIFF, deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF, JPEG": ("TIFF", {"compression": "jpeg"}),
    "TIFF, no compression": ("TIFF", {}),
    "BMP": ("BMP", {}),
}


def photographs() -> list[Image.Image]:
    """Smooth shapes of several scales and some grain."""
    generator = np.random.RandomState(0)
    pages = []
    for _ in range(IMAGES):
        page = 128 + generator.normal(0, 3, (ROWS, COLUMNS, 3))
        for scale in range(4):
            layer = generator.normal(0, 60 / 2**scale, (3 * 2**scale, 4 * 2**scale, 3)).clip(-127, 127)
            grown = Image.fromarray((layer + 128).astype(np.uint8)).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC)
            page += np.asarray(grown).astype(float) - 128
        pages.append(Image.fromarray(page.clip(0, 255).astype(np.uint8)))
    return pages


def opened(data: bytes) -> bytes | None:
    """The pixels; None: refused."""
    try:
        return BytesPicture(data).open().tobytes()
    except DataError:
        return None


def refused_share(good: list[tuple[bytes, bytes]], hole: int, files: int, *, zeroed: bool) -> float:
    """Percent of damaged files that are refused; ``good`` holds (bytes, pixels)."""
    chance = random.Random(hole)
    refused = counted = 0
    while counted < files:
        data, pixels = chance.choice(good)
        at = chance.randrange(len(data) // 5, int(len(data) * 0.95) - hole)
        damaged = data[:at] + (bytes(hole) if zeroed else chance.randbytes(hole)) + data[at + hole :]
        found = opened(damaged)
        if damaged != data and found != pixels:
            counted += 1
            refused += found is None
    return round(100 * refused / counted, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500, help="damaged files for each cell")
    files = parser.parse_args().files
    result: dict[str, Any] = {}
    for name, (form, options) in FORMATS.items():
        good = []
        for image in photographs():
            buffer = io.BytesIO()
            image.save(buffer, form, **options)
            pixels = opened(buffer.getvalue())
            if pixels is None:
                raise SystemExit(f"{name}: a good file is refused")
            good.append((buffer.getvalue(), pixels))
        began = time.perf_counter()
        for data, _ in good:
            BytesPicture(data).open().load()
        milliseconds = 1000 * (time.perf_counter() - began) / len(good)
        result[name] = {
            "bytes": sum(len(data) for data, _ in good) // len(good),
            "milliseconds": round(milliseconds, 2),
            "zeroed": {hole: refused_share(good, hole, files, zeroed=True) for hole in HOLES},
            "overwritten": {hole: refused_share(good, hole, files, zeroed=False) for hole in HOLES},
        }
    print(json.dumps({"files": files, "refused_percent": result}, indent=1))


if __name__ == "__main__":
    # libtiff writes of every damaged file to standard error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    main()
