"""Image likeness: whether two images show the same, whatever their size, compression and a few percent of crop.

Both are looked at as grey thumbnails. Sums over rows and over columns say how one lies in the other: the scale and the
shift of each axis are those whose correlation is highest, and least squares on the pixels refines them. Then the fine
structure of both is compared tile by tile. Two photographs have little of it in common. Two pages of text agree in
margins and lines, but not in the words, and two charts of one template not in the bars: so it is the worst tiles that
decide. ``python -m benchmarks.image_likeness`` measures how often this is right.

H rows, W columns of a thumbnail; N pixels of its side; K tiles; S scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn, irfft, rfft

SIDE = 128
"""Pixels of a thumbnail's side: what remains of a line of text of 10 points on a page are its words as grey blots."""
FREQUENCIES = 8
"""Of the cosine transform, along each axis, by which images worth comparing are found."""
LIKE = 0.65
"""Correlation that all but the worst tiles must reach."""

_WORST = 0.15
"""Share of the structure that may differ: a watermark, a caption."""
_TILES = 8
_SCALES_S = np.linspace(0.86, 1.16, 31)
_FARTHEST = int(0.13 * SIDE)
"""Pixels that an axis may be shifted by."""
_WEAK = 3.0
"""Grey levels, root mean square, below which fine structure is noise and the next coarser one is compared."""
_COARSEST = 32

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """What is kept of an image to compare it."""

    gray_HW: NDArray[np.uint8]
    short_side: int
    """Pixels of the image itself: a small one has no finer structure."""

    @classmethod
    def of(cls, image: Image.Image) -> Thumbnail:
        gray = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        return cls(np.asarray(gray, np.uint8), min(image.size))

    @property
    def flat(self) -> bool:
        """Whether there is nothing to compare by: all such images look the same."""
        return float(self.gray_HW.std()) < 1.0

    def descriptor(self) -> Floats:
        """The lowest frequencies without the mean, at unit length: cosines of these find candidates."""
        low = dctn(self.gray_HW.astype(np.float32), norm="ortho")[:FREQUENCIES, :FREQUENCIES]
        step = np.arange(FREQUENCIES)
        low = low * np.sqrt(np.hypot(step[:, None], step[None, :]))  # images are strongest where they differ least
        return (low / max(float(np.linalg.norm(low)), 1e-6)).ravel().astype(np.float32)

    def profiles(self) -> tuple[Floats, Floats]:
        """Means of rows and of columns, what is wider than a tile taken out."""
        gray_HW = self.gray_HW.astype(np.float32)
        local_HW = gray_HW - _mean(SIDE, 17) @ gray_HW @ _mean(SIDE, 17).T
        return _unit(local_HW.mean(1)), _unit(local_HW.mean(0))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a pixel of one thumbnail lies in another: at ``scale * u + shift`` with u from -0.5 to 0.5, by axis."""

    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)


class Profiles:
    """The profiles of one thumbnail at every scale, to be matched with those of many others at once."""

    def __init__(self, thumbnail: Thumbnail) -> None:
        self._spectra = [np.conj(rfft(_scaled(profile), 2 * SIDE)) for profile in thumbnail.profiles()]

    def match(self, others: list[tuple[Floats, Floats]]) -> list[tuple[float, Placement]]:
        """For each other thumbnail, by its profiles: how well both axes correlate at best, and where."""
        found = []
        for axis, spectra in enumerate(self._spectra):
            other = rfft(np.stack([profiles[axis] for profiles in others]), 2 * SIDE)
            curves = irfft(spectra[None] * other[:, None], 2 * SIDE)
            curves = np.concatenate([curves[..., -_FARTHEST:], curves[..., : _FARTHEST + 1]], -1)
            best = curves.reshape(len(others), -1).argmax(1)
            scale, shift = np.divmod(best, 2 * _FARTHEST + 1)
            found.append((curves.reshape(len(others), -1).max(1), _SCALES_S[scale], (shift - _FARTHEST) / SIDE))
        (rows, tall, down), (columns, wide, right) = found
        return [
            (float(rows[n] + columns[n]), Placement((tall[n], wide[n]), (down[n], right[n])))
            for n in range(len(others))
        ]


def likeness(one: Thumbnail, other: Thumbnail, placement: Placement | None = None) -> float:
    """The correlation of all tiles but the worst: above ``LIKE`` for two copies of one image.

    ``placement`` is where ``one`` lies in ``other``, roughly; None: it is looked for.
    """
    if placement is None:
        placement = Profiles(one).match([other.profiles()])[0][1]
    first, second = _levels(one, other)
    best = -1.0
    for start, refine in ((Placement(), False), (placement, True), (Placement(), True)):
        at = start
        if refine:
            for a_HW, b_HW in zip(first[-2:], second[-2:], strict=True):
                at = _refined(a_HW, b_HW, at)
        best = max(best, _agreement(first[-1], second[-1], at))
        if best > LIKE:
            break
    return best


def _levels(one: Thumbnail, other: Thumbnail) -> tuple[list[Floats], list[Floats]]:
    """Both thumbnails at growing sizes, up to the finest that both images have structure at."""
    small = min(one.short_side, other.short_side)
    finest = SIDE if small >= 160 else SIDE // 2 if small >= 40 else _COARSEST
    first, second = [one.gray_HW.astype(np.float32)], [other.gray_HW.astype(np.float32)]
    while len(first[0]) > _COARSEST // 2:
        first.insert(0, _halved(first[0]))
        second.insert(0, _halved(second[0]))
    while len(first[-1]) > finest or (
        len(first[-1]) > _COARSEST and min(_strength(first[-1]), _strength(second[-1])) < _WEAK
    ):
        first.pop()
        second.pop()
    return first, second


def _agreement(a_HW: Floats, b_HW: Floats, placement: Placement) -> float:
    """The correlation that all tiles with structure reach but the worst, counted by structure; -1: too few have any."""
    moved_HW, inside_HW = _moved(b_HW, placement)
    a_KP = _tiles(_fine(a_HW) * inside_HW)
    b_KP = _tiles(_fine(moved_HW) * inside_HW)
    a_K, b_K = (a_KP**2).mean(1), (b_KP**2).mean(1)
    most_K, least_K = np.maximum(a_K, b_K), np.minimum(a_K, b_K)
    correlation_K = (a_KP * b_KP).mean(1) / np.sqrt(np.maximum(a_K * b_K, 1e-9))
    correlation_K = np.where(least_K < 0.05 * most_K, 0.0, correlation_K)
    used = (most_K >= max(0.5, 0.02 * float(most_K.max()))) & (_tiles(inside_HW).mean(1) > 0.6)
    if used.sum() < 4:
        return -1.0
    order = np.argsort(correlation_K[used])
    weight = np.cumsum(np.sqrt(most_K[used])[order])
    return float(correlation_K[used][order][np.searchsorted(weight, _WORST * weight[-1])])


def _refined(a_HW: Floats, b_HW: Floats, at: Placement) -> Placement:
    """Two steps of least squares on scale and shift of both axes (Gauss and Newton), brightness and contrast free."""
    side = len(a_HW)
    place = (((np.arange(side) + 0.5) / side) - 0.5).astype(np.float32)
    for _ in range(2):
        moved_HW, inside_HW = _moved(b_HW, at)
        b, a = _centred(moved_HW, inside_HW), _centred(a_HW, inside_HW)
        gain = float((a * b).sum()) / max(float((b * b).sum()), 1e-6)
        if gain <= 0:
            return at
        down, right = (slope * inside_HW * side * gain for slope in np.gradient(moved_HW))
        slopes = np.stack([down * place[:, None], right * place[None, :], down, right]).reshape(4, -1)
        slopes -= slopes.mean(1, keepdims=True)
        normal = slopes @ slopes.T
        normal += np.diag(1e-3 * np.diag(normal) + 1e-6)
        step = np.clip(np.linalg.solve(normal, slopes @ (a - gain * b).ravel()), -0.02, 0.02)
        scale = np.clip(np.array(at.scale) + step[:2], 0.8, 1.25)
        shift = np.clip(np.array(at.shift) + step[2:], -0.15, 0.15)
        at = Placement((float(scale[0]), float(scale[1])), (float(shift[0]), float(shift[1])))
    return at


def _moved(x_HW: Floats, placement: Placement) -> tuple[Floats, Floats]:
    """The thumbnail as the other one lies in it, and 1 where it has a pixel."""
    (rows, tall), (columns, wide) = (
        _sampling(len(x_HW), scale, shift) for scale, shift in zip(placement.scale, placement.shift, strict=True)
    )
    return (rows @ x_HW @ columns.T).astype(np.float32), np.outer(tall, wide).astype(np.float32)


def _sampling(side: int, scale: float, shift: float) -> tuple[Floats, Floats]:
    """A matrix that samples an axis linearly at ``scale * u + shift``, and 1 where that lies inside."""
    at = (scale * ((np.arange(side) + 0.5) / side - 0.5) + shift + 0.5) * side - 0.5
    inside = ((at >= -0.5) & (at <= side - 0.5)).astype(np.float32)
    at = np.clip(at, 0, side - 1)
    left = np.minimum(at.astype(int), side - 2)
    matrix = np.zeros((side, side), np.float32)
    rows = np.arange(side)
    matrix[rows, left] = 1 - (at - left)
    matrix[rows, left + 1] += at - left
    return matrix, inside


def _scaled(profile: Floats) -> Floats:
    """A profile as it looks where its image is stretched by each scale."""
    rows = []
    for scale in _SCALES_S:
        matrix, inside = _sampling(len(profile), 1 / float(scale), 0.0)
        rows.append(_unit((matrix @ profile) * inside))
    return np.stack(rows)


def _fine(x_HW: Floats) -> Floats:
    """Structure between three and nine pixels."""
    narrow, wide = _mean(len(x_HW), 3), _mean(len(x_HW), 9)
    return np.asarray(narrow @ x_HW @ narrow.T - wide @ x_HW @ wide.T, np.float32)


def _strength(x_HW: Floats) -> float:
    return float(np.sqrt((_fine(x_HW) ** 2).mean()))


@lru_cache(maxsize=16)
def _mean(side: int, width: int) -> Floats:
    """A matrix that takes the mean of ``width`` neighbours along an axis, of fewer at its ends."""
    near = np.abs(np.arange(side)[:, None] - np.arange(side)[None, :]) <= width // 2
    return (near / near.sum(1, keepdims=True)).astype(np.float32)


def _tiles(x_HW: Floats) -> Floats:
    """K rows, one a tile, of its pixels."""
    side = len(x_HW) // _TILES
    return x_HW.reshape(_TILES, side, _TILES, side).swapaxes(1, 2).reshape(_TILES * _TILES, -1)


def _centred(x_HW: Floats, inside_HW: Floats) -> Floats:
    return (x_HW - (x_HW * inside_HW).sum() / inside_HW.sum()) * inside_HW


def _halved(x_HW: Floats) -> Floats:
    half = len(x_HW) // 2
    return x_HW.reshape(half, 2, half, 2).mean((1, 3))


def _unit(x: Floats) -> Floats:
    centred = x - x.mean()
    return (centred / max(float(np.linalg.norm(centred)), 1e-6)).astype(np.float32)
