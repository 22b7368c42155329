"""Images per second of our loader against a plain PIL data set in torch's DataLoader, same transform. Prints JSON.

python benchmarks/loader.py [--files 200] [--rounds 6] [--workers 2] [--size 224]

All sides read the same generated JPEG files, of the mean size of COCO's photos (about 150 KB at 640 x 480). ``ours``:
llava_json, mixture, Loader threads, ``Preprocess``. ``plain``: ``Image.open(path).convert("RGB")`` and torchvision's
Resize, ToTensor, Normalize in a torch DataLoader's processes. ``ratio`` is ours to plain and only counts where pixels
are equal up to the rounding of bytes: ``largest_difference_in_bytes`` of 1, in a ``differing_share`` of them.
``ours_reduced`` is ours with ``at_least=size``: JPEGs are decoded at a reduced scale, so its pixels are not the same
(``reduced_mean_difference``, in standard deviations), and its ratio is no answer to the question above. Rounds are
interleaved in one process, whose allocator is set as the command line sets it, for all sides; a ratio is the median of
each round's own. Starting the workers is not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ommatidia.core.malloc import keep_memory
from ommatidia.core.picture import FilePicture
from ommatidia.core.types import Example, Sample, View
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.loader import Loader
from ommatidia.data.mixture import MixtureConfig, Weighted
from ommatidia.models.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

COLUMNS, ROWS = 640, 480
GRAIN, QUALITY = 12, 93
EPOCHS = 3
"""Passes over the files in one timed round, so that what was prepared before the clock started weighs little."""


def write_files(folder: Path, count: int) -> list[Path]:
    """Photograph-like JPEGs: smooth shapes of several scales and grain, 640 x 480, about 150 KB."""
    random = np.random.RandomState(0)
    paths, records = [], []
    for number in range(count):
        layers = [random.normal(0, 60 / 2**k, (6 * 2**k, 8 * 2**k, 3)) for k in range(4)]
        page = 128 + random.normal(0, GRAIN, (ROWS, COLUMNS, 3))
        for layer in layers:
            grown = [
                np.asarray(
                    Image.fromarray(layer[..., c].astype(np.float32)).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC)
                )
                for c in range(3)
            ]
            page += np.stack(grown, axis=-1)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=QUALITY)
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "An image."}]
        records.append({"id": str(number), "image": f"{number}.jpg", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(records))
    return paths


class Plain(Dataset[Tensor]):
    """What a training script does at first."""

    def __init__(self, paths: list[Path], prepare: Callable[[Image.Image], Tensor]) -> None:
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        return EPOCHS * len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index % len(self.paths)]) as image:
            return self.prepare(image.convert("RGB"))


def plain_transform(size: int) -> Callable[[Image.Image], Tensor]:
    """The usual torchvision pipeline, with the numbers of ``Preprocess``'s defaults."""
    steps = [
        transforms.Resize((size, size), transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    return transforms.Compose(steps)


def rate(batches: Any, count: int) -> float:
    """Images per second of ``count`` batches after the first one, which pays for starting the workers."""
    running = iter(batches)
    next(running)
    begin, images = time.perf_counter(), 0
    for batch in islice(running, count):
        images += len(batch)
    seconds = time.perf_counter() - begin
    if hasattr(running, "close"):
        running.close()
    return images / seconds


def makers(folder: Path, paths: list[Path], given: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    prepare = Preprocess(size=(given.size, given.size), fit="stretch")
    nothing = torch.zeros(1, dtype=torch.long)

    def process(sample: Sample) -> Example:
        return Example(
            sample.id,
            nothing,
            nothing,
            {"all": prepare(sample.images[0].open())[None]},
            views=(View(0, sample.images[0].size()),),
        )

    def ours(at_least: int | None) -> Any:
        source = LlavaJSON(path=folder / "data.json", at_least=at_least)
        mixture = MixtureConfig(sources={"files": Weighted(source=source)}).open()
        loader = Loader(mixture, process, batch=given.batch, seed=0, workers=given.workers)
        return (torch.cat([example.pixels["all"] for example in batch]) for batch in loader)

    def plain() -> Any:
        generator = torch.Generator().manual_seed(0)
        return DataLoader(
            Plain(paths, plain_transform(given.size)),
            batch_size=given.batch,
            shuffle=True,
            generator=generator,
            num_workers=given.workers,
        )

    return {"ours": lambda: ours(None), "plain": plain, "ours_reduced": lambda: ours(given.size)}


def differences(paths: list[Path], size: int) -> dict[str, float]:
    """How far the pixels of both of our ways are from the plain ones."""
    prepare = Preprocess(size=(size, size), fit="stretch")
    byte = 1 / 255 / max(prepare.std)
    largest, shares, means = 0.0, [], []
    for path in paths[:20]:
        with Image.open(path) as image:
            expected = plain_transform(size)(image.convert("RGB"))
        apart = (prepare(FilePicture(path).open()) - expected).abs()
        largest = max(largest, float(apart.max()))
        shares.append(float((apart > byte / 2).float().mean()))
        means.append(float((prepare(FilePicture(path, at_least=size).open()) - expected).abs().mean()))
    return {
        "largest_difference_in_bytes": round(largest * 255 * max(prepare.std), 2),
        "differing_share": round(statistics.mean(shares), 5),
        "reduced_mean_difference": round(statistics.mean(means), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("files", 200), ("rounds", 6), ("workers", 2), ("size", 224), ("batch", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    keep_memory()  # as the command line does
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        paths = write_files(Path(place), given.files)
        sides = makers(Path(place), paths, given)
        count = EPOCHS * given.files // given.batch - 1
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(given.rounds):
            for name, make in sides.items():
                rates[name].append(rate(make(), count))
        pixels = differences(paths, given.size)
        kilobytes = round(statistics.mean(path.stat().st_size for path in paths) / 1000)
    ratios = {
        name: [one / plain for one, plain in zip(rates[name], rates["plain"], strict=True)]
        for name in ("ours", "ours_reduced")
    }
    result = {name: round(statistics.median(of_side), 1) for name, of_side in rates.items()}
    result |= {"ratio": round(statistics.median(ratios["ours"]), 3), "target": 1.5}
    result |= {"ratio_reduced": round(statistics.median(ratios["ours_reduced"]), 3)}
    shown = {f"{name}_ratios": [round(ratio, 3) for ratio in of_side] for name, of_side in ratios.items()}
    settings = vars(given) | {"file": f"{COLUMNS}x{ROWS} JPEG, {kilobytes} KB"}
    print(json.dumps({**result, **pixels, **shown, "unit": "images/s", "settings": settings}, indent=1))


if __name__ == "__main__":
    main()
