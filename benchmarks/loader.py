"""Images per second of our loader against a plain PIL data set in torch's DataLoader, same transform. Prints JSON.

python benchmarks/loader.py [--files 200] [--rounds 6] [--workers 2] [--size 224]

Both sides decode the same generated JPEG files and make the same pixels with ``Preprocess``, in batches. Ours: llava_json
source, mixture, Loader threads. Plain: ``Image.open(path).convert("RGB")`` in a torch Dataset and DataLoader processes.
Rounds are interleaved (ours, plain, ours, plain ...) in one process; the ratio is the median over the rounds of each
pair's own ratio, so that a machine that slows down slows both. Startup of workers is not timed on either side.
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

from ommatidia.core.types import Example, Sample
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.loader import Loader
from ommatidia.data.mixture import MixtureConfig, Weighted
from ommatidia.models.vision.preprocess import Preprocess

COLUMNS, ROWS = 640, 480


def write_files(folder: Path, count: int) -> list[Path]:
    """Photograph-like JPEGs: smooth shapes of several scales and some grain, 640 x 480, quality 88."""
    random = np.random.RandomState(0)
    paths, records = [], []
    for number in range(count):
        layers = [random.normal(0, 60 / 2**k, (6 * 2**k, 8 * 2**k, 3)) for k in range(4)]
        page = 128 + random.normal(0, 4, (ROWS, COLUMNS, 3))
        for layer in layers:
            grown = [
                np.asarray(
                    Image.fromarray(layer[..., c].astype(np.float32)).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC)
                )
                for c in range(3)
            ]
            page += np.stack(grown, axis=-1)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=88)
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A picture."}]
        records.append({"id": str(number), "image": f"{number}.jpg", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(records))
    return paths


class Plain(Dataset[Tensor]):
    """What a first version of a training script does."""

    def __init__(self, paths: list[Path], prepare: Preprocess) -> None:
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            return self.prepare(image.convert("RGB"))


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
    mixture = MixtureConfig(sources={"files": Weighted(source=LlavaJSON(path=folder / "data.json"))}).open()
    nothing = torch.zeros(1, dtype=torch.long)

    def process(sample: Sample) -> Example:
        return Example(sample.id, nothing, nothing, {"all": prepare(sample.images[0].open())[None]}, views=1)

    def ours() -> Any:
        loader = Loader(mixture, process, batch=given.batch, seed=0, workers=given.workers)
        return (torch.cat([example.pixels["all"] for example in batch]) for batch in loader)

    def plain() -> Any:
        generator = torch.Generator().manual_seed(0)
        return DataLoader(
            Plain(paths, prepare), batch_size=given.batch, shuffle=True, generator=generator, num_workers=given.workers
        )

    return {"ours": ours, "plain": plain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("files", 200), ("rounds", 6), ("workers", 2), ("size", 224), ("batch", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths = write_files(folder, given.files)
        sides = makers(folder, paths, given)
        count = given.files // given.batch - 1
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(given.rounds):
            for name, make in sides.items():
                rates[name].append(rate(make(), count))
    pairs = [ours / plain for ours, plain in zip(rates["ours"], rates["plain"], strict=True)]
    result = {
        "ours": round(statistics.median(rates["ours"]), 1),
        "plain": round(statistics.median(rates["plain"]), 1),
        "ratio": round(statistics.median(pairs), 3),
        "ratios": [round(pair, 3) for pair in pairs],
        "unit": "images/s",
        "target": 1.2,
        "settings": vars(given) | {"file": f"{COLUMNS}x{ROWS} JPEG"},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
