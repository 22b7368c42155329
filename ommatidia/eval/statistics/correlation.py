"""Rank correlation, such as between a cheap proxy's ranking of designs and the full one's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ommatidia.core.errors import RunError


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank; NaN where one side is constant. Raises RunError on unlike lengths."""
    if len(x) != len(y) or len(x) < 2:
        raise RunError(f"rank correlation needs two or more pairs, got {len(x)} and {len(y)} values")
    a, b = (_ranks(np.asarray(side, dtype=np.float64)) for side in (x, y))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
