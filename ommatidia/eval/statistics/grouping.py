"""How benchmarks group by the scores of many models: correlation, principal components, average-linkage clusters.

Cambrian-1 (section 3.2) reads its four groups off such an image by eye and does not say how scores were scaled first;
here every benchmark is standardised over the models. Shapes: M models, B benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.correlation import spearman
from ommatidia.eval.statistics.run_scores import Array

Method = Literal["pearson", "spearman"]
Layout = Literal["cambrian", "eagle"]

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "general": ("mme", "mmbench", "seed", "gqa"),
    "knowledge": ("scienceqa", "mmmu", "mathvista", "ai2d"),
    "ocr_chart": ("chartqa", "ocrbench", "textvqa", "docvqa"),
    "vision_centric": ("mmvp", "realworldqa", "cv_bench_2d", "cv_bench_3d"),
}
LAYOUTS: Mapping[Layout, Mapping[str, tuple[str, ...]]] = {
    "cambrian": _GROUPS,
    "eagle": {**_GROUPS, "vision_centric": ("mmvp", "realworldqa")},
}
"""Members of each group: Cambrian-1's sixteen columns; Eagle's tables leave CV-Bench out."""


def group_means(percent: Mapping[str, float], *, layout: Layout = "cambrian") -> dict[str, float]:
    """The plain mean of each group's columns, and ``overall``, the mean of all columns.

    ``percent`` is on one scale, which makes MME-Perception / 20 and OCRBench / 10 of what papers print. A group that
    lacks a column is left out, and with it ``overall``: a mean of other columns is another number.
    """
    groups = LAYOUTS[layout]
    found = {
        group: float(np.mean([percent[name] for name in members]))
        for group, members in groups.items()
        if all(name in percent for name in members)
    }
    if len(found) == len(groups):
        found["overall"] = float(np.mean([percent[name] for members in groups.values() for name in members]))
    return found


def correlations(scores_MB: Array, *, method: Method = "pearson") -> Array:
    """B x B over the models that have both scores; NaN where they are fewer than three or one side is constant."""
    count = scores_MB.shape[1]
    found_BB = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(count):
            both_M = np.isfinite(scores_MB[:, i]) & np.isfinite(scores_MB[:, j])
            if both_M.sum() >= 3:
                found_BB[i, j] = _correlation(scores_MB[both_M, i], scores_MB[both_M, j], method)
    return found_BB


def _correlation(x: Array, y: Array, method: Method) -> float:
    if method == "spearman":
        return spearman([float(v) for v in x], [float(v) for v in y])
    a, b = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Components:
    """Principal components of standardised scores."""

    places_BC: Array
    """Where each benchmark stands: its entries in the unit vectors of the components."""
    explained_C: Array
    """Share of the variance."""


def components(scores_MB: Array, *, count: int = 2) -> Components:
    """By singular value decomposition. Signs are such that each component's largest entry is positive.

    Raises RunError when a score is missing, models are fewer than three, or a benchmark scores all models alike.
    """
    if not np.isfinite(scores_MB).all() or len(scores_MB) < 3:
        raise RunError("principal components need three or more models with every score")
    spread_B = scores_MB.std(0)
    if (spread_B == 0).any():
        raise RunError(f"column {int(np.flatnonzero(spread_B == 0)[0])} scores all models alike: it cannot be scaled")
    _, sizes, vectors = np.linalg.svd((scores_MB - scores_MB.mean(0)) / spread_B, full_matrices=False)
    kept = min(count, len(sizes))
    places_BC = vectors[:kept].T
    places_BC = places_BC * np.sign(places_BC[np.abs(places_BC).argmax(0), np.arange(kept)])
    return Components(places_BC, sizes[:kept] ** 2 / (sizes**2).sum())


@dataclass(frozen=True, slots=True)
class Tree:
    """A hierarchy of benchmarks: merges from near to far, and the order of leaves in which no branches cross."""

    merges: tuple[tuple[int, int, float], ...]
    """The two nodes and their distance; node B + i is the i-th merge."""
    order: tuple[int, ...]

    def cut(self, count: int) -> list[tuple[int, ...]]:
        """The leaves in ``count`` clusters, in drawing order."""
        leaves = len(self.order)
        members: dict[int, tuple[int, ...]] = {leaf: (leaf,) for leaf in range(leaves)}
        for number, (a, b, _) in enumerate(self.merges[: max(leaves - count, 0)]):
            members[leaves + number] = members.pop(a) + members.pop(b)
        place = {leaf: at for at, leaf in enumerate(self.order)}
        groups = [tuple(sorted(group, key=place.__getitem__)) for group in members.values()]
        return sorted(groups, key=lambda group: place[group[0]])


def tree(correlation_BB: Array) -> Tree:
    """Average linkage over the distance 1 - correlation. Raises RunError where a correlation is not known."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(correlation_BB) < 2 or not np.isfinite(correlation_BB).all():
        raise RunError("a hierarchy needs two or more benchmarks, each with a correlation to every other")
    distance_BB = 1.0 - correlation_BB
    np.fill_diagonal(distance_BB, 0.0)
    found = linkage(
        squareform((distance_BB + distance_BB.T) / 2, checks=False), method="average", optimal_ordering=True
    )
    merges = tuple((int(a), int(b), float(d)) for a, b, d, _ in found)
    return Tree(merges, tuple(int(leaf) for leaf in leaves_list(found)))


def in_percent(values: Sequence[float], full: float) -> Array:
    """Scores out of ``full`` as percent: 1476.65 of 2000 is 73.83, which is MME-Perception / 20."""
    return 100.0 * np.asarray(values, dtype=np.float64) / full
