"""Image index: which image of a set another one is a copy of, without comparing it with all of them in full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ommatidia.data.curation.image_likeness import LIKE, SIDE, Floats, Profiles, Thumbnail, likeness

_COSINE = 0.4
"""Of the lowest frequencies: copies cropped by 5 percent have 0.5 and more."""
_NEAREST = 256
"""Images that are matched by rows and columns."""
_COMPARED = 3
"""Those of them that are compared in full."""


class ImageIndex:
    """Thumbnails in a file; for each, 320 numbers in memory by which it is found."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "thumbnails").open("w+b")
        self._sides: list[int] = []
        self._rows: list[Floats] = []
        self._profiles: list[tuple[Floats, Floats]] = []
        self._descriptors: Floats = np.zeros((0, 0), np.float32)
        self._gray_NHW: NDArray[np.uint8] = np.zeros((0, SIDE, SIDE), np.uint8)

    def add(self, image: Image.Image) -> bool:
        """Add an image. False: it is flat, and cannot be told from others that are."""
        thumbnail = Thumbnail.of(image)
        if thumbnail.flat:
            return False
        self._file.write(thumbnail.gray_HW.tobytes())
        self._sides.append(thumbnail.short_side)
        self._rows.append(thumbnail.descriptor())
        self._profiles.append(thumbnail.profiles())
        return True

    def holds(self, image: Image.Image) -> bool:
        """Whether the image is a copy of one that was added."""
        return self.find(Thumbnail.of(image)) is not None

    def find(self, thumbnail: Thumbnail) -> int | None:
        """The number of the image that this one is a copy of, by the order of adding; None: of none."""
        self._load()
        if not self._sides or thumbnail.flat:
            return None
        cosines = self._descriptors @ thumbnail.descriptor()
        near = np.flatnonzero(cosines >= _COSINE)
        if len(near) == 0:
            return None
        near = near[np.argsort(-cosines[near], kind="stable")[:_NEAREST]]
        matches = Profiles(thumbnail).match([self._profiles[number] for number in near.tolist()])
        order = sorted(range(len(near)), key=lambda n: -matches[n][0])[:_COMPARED]
        for n in order:
            number = int(near[n])
            held = Thumbnail(self._gray_NHW[number], self._sides[number])
            if likeness(thumbnail, held, matches[n][1]) >= LIKE:
                return number
        return None

    def _load(self) -> None:
        if len(self._descriptors) == len(self._rows) or not self._rows:
            return
        self._file.flush()
        self._descriptors = np.stack(self._rows)
        self._gray_NHW = np.memmap(self._file, np.uint8, "r", shape=(len(self._rows), SIDE, SIDE))
