"""Features: a frozen trunk's output for every view of a source's images, stored once, shared by every design that
uses it.

Layout: ``features.npy``, float16 N_H_W_D memory-mapped, one row a view, and ``index.json``, image digest to first row
and number of rows, or to the reason why the image could not be read: whoever asks for it gets that DataError and
counts it against its own tolerance.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ommatidia.core.console import console
from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError, RunError
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Picture
from ommatidia.data.mixture import MixtureConfig, Weighted
from ommatidia.lab.nodes.job import Computation, Finding, Job
from ommatidia.lab.nodes.requirements import encoder_faults
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.price import Price
from ommatidia.models.processor import preprocess_for
from ommatidia.models.vision.encoder import EncoderConfig, VisionEncoder
from ommatidia.models.vision.tiling import TilingConfig, Whole

_BATCH = 32
"""Views at once; an image's are never parted, so it may be a few more."""

_LOOK = 48
"""How many images are measured to estimate the mean number of views."""


@dataclass(frozen=True)
class FeatureJob(Computation):
    """One trunk over the images of one source, cut to views as the tiling says."""

    kind: ClassVar[str] = "features"
    version: ClassVar[int] = 4

    name: str
    encoder: EncoderConfig
    source: SourceConfig
    precision: Literal["fp32", "bf16"]
    device: str = "cpu"
    tiling: TilingConfig = field(default_factory=Whole)
    threads: int = 2

    @property
    def label(self) -> str:
        return f"features of {self.name} on {self.source.describe()}"

    @property
    def whole(self) -> bool:
        """Whether the encoder sees each image once, however it is cut."""
        return self.name in self.tiling.seen_whole

    def identity(self) -> Any:
        cut = [self.whole, self.tiling.pixel_identity()]
        return [self.encoder.trunk_digest(), self.source.fingerprint(), self.precision, cut, *self.arithmetic()]

    def needs(self) -> tuple[Job, ...]:
        return ()

    @property
    def number_format(self) -> str:
        return self.precision

    def reads(self) -> dict[str, Contents]:
        return {"data": self.source.contents(), f"encoders.{self.name}": self.encoder.weights.contents()}

    def price(self) -> Price:
        pictures, grid, cost = picture_count(self.source), self.encoder.trunk_grid(), self.encoder.trunk_cost()
        views = round(pictures * (1.0 if self.whole else views_per_picture(self.source, self.tiling)))
        return Price(cost.flops * views, 2 * grid.values * views, 0, cost.parameters, pictures)

    def findings(self, *, pixels: bool) -> Iterator[Finding]:
        """Whether the trunk can be built."""
        return (Finding.of(fault) for fault in encoder_faults(self.name, self.encoder))

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        sights = _sights(pictures_of(self.source, tolerant=True), self.tiling, self.whole)
        if not sights:
            raise DataError("no images to see", source=self.source.describe())
        grid, total = self.encoder.trunk_grid(), sights[-1].end
        shape = (total, grid.height, grid.width, grid.dim)
        # Rows are finished in order, so a killed job goes on behind the last row it counted.
        path, log = scratch / "features.npy", scratch / "done.json"
        done, refused = _resumed(path, log)
        rows = np.lib.format.open_memmap(path, mode="r+" if done else "w+", dtype=np.float16, shape=shape)
        _claim(path)
        encoder = self.encoder.build().to(self.device).eval()
        with console().progress(self.label, total, done=done) as bar:
            for start, pixels_BCHW, bad in self._prepared([s for s in sights if s.first >= done]):
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
        index = {s.picture.digest: refused.get(s.picture.digest, [s.first, s.views]) for s in sights}
        (out / "index.json").write_text(json.dumps(index))
        said = {"pictures": len(sights), "grid": [grid.height, grid.width, grid.dim], "refused": refused}
        return said if total == len(sights) else {**said, "views": total}

    def _prepared(self, sights: list[_Sight]) -> Iterator[_Batch]:
        """First row, pixels (zeros for an unreadable image), and what was unreadable; decoded one batch ahead."""
        prepare = preprocess_for(self.tiling, self.name, self.encoder)

        def load(group: list[_Sight]) -> _Batch:
            pixels, bad = [], {}
            for one in group:
                try:
                    pixels += [prepare(view) for view in one.open(self.tiling, self.whole)]
                except DataError as error:
                    bad[one.picture.digest] = str(error)
                    pixels += [torch.zeros(3, *prepare.size)] * one.views
            return group[0].first, torch.stack(pixels), bad

        groups = _grouped(sights)
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(load, groups[0]) if groups else None
            for number in range(len(groups)):
                batch = coming.result() if coming else load(groups[number])
                coming = ahead.submit(load, groups[number + 1]) if number + 1 < len(groups) else None
                yield batch

    def lookup(self, store: Store) -> Callable[[str], Tensor]:
        """Stored features of an image's views by digest, x_KHWD float16; nothing is read before it is asked for."""
        folder = self.folder(store)
        rows = np.load(folder / "features.npy", mmap_mode="r")
        index: dict[str, tuple[int, int] | str] = json.loads((folder / "index.json").read_text())

        def look(digest: str) -> Tensor:
            found = index.get(digest)
            if found is None:
                raise RunError(f"{self.label}: no stored features for image {digest[:12]}")
            if isinstance(found, str):
                raise DataError(found)
            first, views = found
            return torch.from_numpy(np.array(rows[first : first + views]))

        return look


@dataclass(frozen=True, slots=True)
class _Sight:
    """What an encoder sees of one image, and the rows that it fills."""

    picture: Picture
    first: int
    views: int

    @property
    def end(self) -> int:
        return self.first + self.views

    def open(self, tiling: TilingConfig, whole: bool) -> list[Image.Image]:
        """Raises DataError."""
        image = self.picture.open()
        seen = [tiling.canvas(image)] if whole else tiling.cut(image)
        if len(seen) != self.views:
            raise DataError(f"{len(seen)} views where the size in its header promised {self.views}")
        return seen


_Batch = tuple[int, Tensor, dict[str, str]]


def _sights(pictures: list[Picture], tiling: TilingConfig, whole: bool) -> list[_Sight]:
    """The images and their rows, one after another; an unreadable image has one."""
    sights, first = [], 0
    for picture in pictures:
        views = 1
        if not whole and tiling.pixel_identity() is not None:
            with contextlib.suppress(DataError):  # opening it will say the same
                views = len(tiling.views(*picture.size()))
        sights.append(_Sight(picture, first, views))
        first += views
    return sights


def _grouped(sights: list[_Sight]) -> list[list[_Sight]]:
    groups: list[list[_Sight]] = []
    for one in sights:
        if not groups or groups[-1][-1].end - groups[-1][0].first >= _BATCH:
            groups.append([])
        groups[-1].append(one)
    return groups


def _resumed(path: Path, log: Path) -> tuple[int, dict[str, str]]:
    """Rows that an interrupted job finished, and which images among them were unreadable."""
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


def pictures_of(source: SourceConfig, *, tolerant: bool) -> list[Picture]:
    """The distinct images of a source, in the order they first occur.

    A tolerant look passes over records that cannot be used: whoever draws one counts it against its own tolerance.
    Raises DataError for the first of them otherwise.
    """
    mixture = MixtureConfig(sources={"all": Weighted(source=source)}, tolerance=0.5 if tolerant else 0.0).open()
    return [picture for _, picture in mixture.pictures()]


def picture_count(source: SourceConfig, *, tolerant: bool = True) -> int:
    """How many distinct images a source has. Raises DataError as ``pictures_of`` does."""
    count, fault = _picture_count(source, source.fingerprint())
    if fault is not None and not tolerant:
        raise fault
    return count


@lru_cache(maxsize=256)
def _picture_count(source: SourceConfig, fingerprint: str) -> tuple[int, DataError | None]:
    """Of the records that can be used, and what is wrong with the first that cannot."""
    try:
        return len(pictures_of(source, tolerant=False)), None
    except DataError as error:
        return len(pictures_of(source, tolerant=True)), error


def views_per_picture(source: SourceConfig, tiling: TilingConfig) -> float:
    """The mean number of views of a source's images, judged by some of them."""
    if tiling.pixel_identity() is None:
        return 1.0
    return _views_per_picture(source, source.fingerprint(), tiling)


@lru_cache(maxsize=256)
def _views_per_picture(source: SourceConfig, fingerprint: str, tiling: TilingConfig) -> float:
    counts, pictures = [], pictures_of(source, tolerant=True)
    for picture in pictures[:: max(1, len(pictures) // _LOOK)]:
        with contextlib.suppress(DataError):  # refused by name when it is to be seen
            counts.append(len(tiling.views(*picture.size())))
    return sum(counts) / len(counts) if counts else 1.0
