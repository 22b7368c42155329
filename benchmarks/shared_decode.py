"""One decode of an image for all encoders of a mixture against one decode for each. Prints JSON.

python -m benchmarks.shared_decode [--rounds 8] [--pictures 6]

Both sides read the same generated JPEG of 1600 x 1200 with our decoder and give equal pixels. ``apart``: every encoder
decodes and resizes for itself, as training scripts with one image processor for each encoder do. ``shared``: decoded
once, and ``prepare_all``. Eagle's five want one tensor of 1024 px (``eagle``); with the pixels of their own
pre-training (``native``) they differ in sizes, filters and statistics. Processor seconds of one thread, with the
allocator as ``omma`` sets it; rounds are interleaved, a ratio is the median of each round's own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ommatidia.core.malloc import keep_memory
from ommatidia.core.picture import BytesPicture
from ommatidia.models.vision import EncoderConfig, Preprocess
from ommatidia.models.vision.preprocess import prepare_all

TARGET = 1.8
MIXTURES = {
    "eagle": ("eagle_clip_448", "eagle_convnext_xxl", "eagle_sam_l", "eagle_eva02_l_det", "eagle_pix2struct_l"),
    "native": ("clip_l_14_448", "convnext_xxl_1024", "sam_l", "eva02_l_det", "pix2struct_l"),
}


def picture(seed: int) -> BytesPicture:
    """A photograph-like JPEG: smooth shapes of several scales and grain."""
    random = np.random.default_rng(seed)
    page = random.normal(128, 8, (1200, 1600, 3))
    for scale in range(4):
        small = random.normal(128, 60 / 2**scale, (6 * 2**scale, 8 * 2**scale, 3)).clip(0, 255).astype(np.uint8)
        page += np.asarray(Image.fromarray(small).resize((1600, 1200), Image.Resampling.BICUBIC), np.float64) - 128
    stream = BytesIO()
    Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return BytesPicture(stream.getvalue())


def apart(one: BytesPicture, transforms: Mapping[str, Preprocess]) -> dict[str, Tensor]:
    return {name: transform(one.open()) for name, transform in transforms.items()}


def shared(one: BytesPicture, transforms: Mapping[str, Preprocess]) -> dict[str, Tensor]:
    return prepare_all(one.open(), transforms)


def seconds(way: Callable[..., object], pictures: list[BytesPicture], transforms: Mapping[str, Preprocess]) -> float:
    began = time.process_time()
    for one in pictures:
        way(one, transforms)
    return (time.process_time() - began) / len(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=6)
    given = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    pictures = [picture(seed) for seed in range(given.pictures)]
    result: dict[str, object] = {"target": TARGET, "jpeg_bytes": round(statistics.mean(len(p.data) for p in pictures))}
    for mixture, names in MIXTURES.items():
        transforms = {name: EncoderConfig.parse(name).preprocess() for name in names}
        one, other = apart(pictures[0], transforms), shared(pictures[0], transforms)
        assert all(torch.equal(one[name], other[name]) for name in names)
        rounds = [
            (seconds(apart, pictures, transforms), seconds(shared, pictures, transforms)) for _ in range(given.rounds)
        ]
        result[mixture] = {
            "ratio": round(statistics.median(slow / fast for slow, fast in rounds), 2),
            "apart_ms": round(1000 * statistics.median(slow for slow, _ in rounds), 1),
            "shared_ms": round(1000 * statistics.median(fast for _, fast in rounds), 1),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
