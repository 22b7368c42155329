"""Features: a frozen trunk's output for every picture of a source, stored once, shared by every design that uses it.

Layout: ``features.npy``, float16 N_H_W_D memory-mapped, and ``index.json``, picture digest to row, or to the reason why
the picture could not be read: whoever asks for it gets that DataError and counts it against its own tolerance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ommatidia.core.console import console
from ommatidia.core.errors import DataError, RunError
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Picture
from ommatidia.data.mixture import MixtureConfig, Weighted
from ommatidia.lab.jobs.job import Job, Price
from ommatidia.lab.store import Store
from ommatidia.models.vision.encoder import EncoderConfig, VisionEncoder

_BATCH = 32


@dataclass(frozen=True)
class FeatureJob(Job):
    """One trunk over the pictures of one source."""

    kind: ClassVar[str] = "features"
    version: ClassVar[int] = 1

    name: str
    encoder: EncoderConfig
    source: SourceConfig
    precision: Literal["fp32", "bf16"]
    device: str = "cpu"

    @property
    def label(self) -> str:
        return f"features of {self.name} on {self.source.describe()}"

    def identity(self) -> Any:
        return [self.encoder.trunk_digest(), self.source.fingerprint(), self.precision]

    def needs(self) -> tuple[Job, ...]:
        return ()

    def price(self) -> Price:
        pictures, grid, cost = picture_count(self.source), self.encoder.trunk_grid(), self.encoder.trunk_cost()
        return Price(cost.flops * pictures, 2 * grid.values * pictures, 0, cost.parameters, pictures)

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        pictures = pictures_of(self.source, tolerant=True)
        if not pictures:
            raise DataError("no pictures to see", source=self.source.describe())
        grid = self.encoder.trunk_grid()
        shape = (len(pictures), grid.height, grid.width, grid.dim)
        # Rows are finished in order, so a killed job goes on behind the last row it counted.
        path, log = scratch / "features.npy", scratch / "done.json"
        done, refused = _resumed(path, log)
        rows = np.lib.format.open_memmap(path, mode="r+" if done else "w+", dtype=np.float16, shape=shape)
        _claim(path)
        encoder = self.encoder.build().to(self.device).eval()
        with console().progress(self.label, len(pictures), done=done) as bar:
            for start, pixels_BCHW, bad in _prepared(self.encoder, pictures[done:], done):
                x_BHWD = _trunk(encoder, pixels_BCHW.to(self.device), self.precision)
                kept = x_BHWD.half().cpu()
                if not kept.isfinite().all():
                    largest = f"{x_BHWD.abs().max():.3g}"
                    raise RunError(f"{self.label}: a value of {largest} does not fit 16 bits; set features: never")
                rows[start : start + len(x_BHWD)] = kept.numpy()
                rows.flush()
                refused |= bad
                draft = log.with_suffix(".new")
                draft.write_text(json.dumps({"rows": start + len(x_BHWD), "refused": refused}))
                draft.replace(log)
                bar.advance(len(x_BHWD))
        del rows
        path.rename(out / "features.npy")
        index = {p.digest: refused.get(p.digest, row) for row, p in enumerate(pictures)}
        (out / "index.json").write_text(json.dumps(index))
        return {"pictures": len(pictures), "grid": [grid.height, grid.width, grid.dim], "refused": refused}

    def lookup(self, store: Store) -> Callable[[str], Tensor]:
        """Stored features by picture digest, x_HWD float16; nothing is read before it is asked for."""
        folder = self.folder(store)
        rows = np.load(folder / "features.npy", mmap_mode="r")
        index: dict[str, int | str] = json.loads((folder / "index.json").read_text())

        def look(digest: str) -> Tensor:
            row = index.get(digest)
            if row is None:
                raise RunError(f"{self.label}: no stored features for picture {digest[:12]}")
            if isinstance(row, str):
                raise DataError(row)
            return torch.from_numpy(np.array(rows[row]))

        return look


def _resumed(path: Path, log: Path) -> tuple[int, dict[str, str]]:
    """Rows that an interrupted job finished, and which pictures among them were unreadable."""
    if not path.is_file() or not log.is_file():
        return 0, {}
    state = json.loads(log.read_text())
    return state["rows"], state["refused"]


def _claim(path: Path) -> None:
    """Have the disk set aside the whole file now: a mapped page that finds no room later kills the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def joined(lookups: list[Callable[[str], Tensor]]) -> Callable[[str], Tensor]:
    """One lookup over several sources' features."""
    if len(lookups) == 1:
        return lookups[0]

    def look(digest: str) -> Tensor:
        for one in lookups[:-1]:
            try:
                return one(digest)
            except RunError:
                continue
        return lookups[-1](digest)

    return look


@torch.inference_mode()
def _trunk(encoder: VisionEncoder, pixels_BCHW: Tensor, precision: str) -> Tensor:
    with torch.autocast(pixels_BCHW.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return encoder.features(pixels_BCHW).float()


_Batch = tuple[int, Tensor, dict[str, str]]


def _prepared(encoder: EncoderConfig, pictures: list[Picture], first: int) -> Iterator[_Batch]:
    """First row, pixels (zeros for an unreadable picture), and what was unreadable; decoded one batch ahead."""
    prepare = encoder.preprocess()

    def load(start: int) -> _Batch:
        pixels, bad = [], {}
        for picture in pictures[start : start + _BATCH]:
            try:
                pixels.append(prepare(picture.open()))
            except DataError as error:
                bad[picture.digest] = str(error)
                pixels.append(torch.zeros(3, *prepare.size))
        return first + start, torch.stack(pixels), bad

    starts = range(0, len(pictures), _BATCH)
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(load, 0) if pictures else None
        for start in starts:
            batch = coming.result() if coming else load(start)
            coming = ahead.submit(load, start + _BATCH) if start + _BATCH < len(pictures) else None
            yield batch


def pictures_of(source: SourceConfig, *, tolerant: bool) -> list[Picture]:
    """The distinct pictures of a source, in the order they first occur.

    A tolerant look passes over records that cannot be used: whoever draws one counts it against its own tolerance.
    Raises DataError for the first of them otherwise.
    """
    mixture = MixtureConfig(sources={"all": Weighted(source=source)}, tolerance=0.5 if tolerant else 0.0).open()
    return [picture for _, picture in mixture.pictures()]


def picture_count(source: SourceConfig, *, tolerant: bool = True) -> int:
    """How many distinct pictures a source has. Raises DataError as ``pictures_of`` does."""
    return _picture_count(source.fingerprint(), source.to_json(), tolerant)


@lru_cache(maxsize=256)
def _picture_count(fingerprint: str, text: str, tolerant: bool) -> int:
    return len(pictures_of(SourceConfig.parse(json.loads(text)), tolerant=tolerant))
