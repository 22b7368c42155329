"""The scores of several runs on the same questions, and how far asking other questions would move their means.

A run is one design trained with one seed. Its score is the mean over a benchmark's questions, averaged over benchmarks
with fixed shares. Questions on one image are not independent, so images (clusters) are the unit of sampling: with the
residual e_k of cluster k, the sum of its weighted values less the mean times its weight, the variance of a mean is
K / (K - 1) * sum(e_k^2) / n^2 (Cochran 1977, Sampling Techniques, section 11.9: a ratio of cluster totals). All runs
answer the same questions, so their means have a joint covariance, and the variance of any weighted sum of runs follows
from the residuals of that sum.

Letters: R runs, N questions, K clusters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ommatidia.core.errors import RunError

Array = NDArray[np.float64]


def table(values: ArrayLike, name: str = "") -> Array:
    """Values as R x N. Raises RunError when they are empty, not finite or of another rank."""
    place = f"{name}: " if name else ""
    try:
        values_RN = np.atleast_2d(np.asarray(values, dtype=np.float64))
    except ValueError:
        raise RunError(f"{place}the seeds have unlike numbers of values; they must answer the same samples") from None
    if values_RN.ndim != 2 or values_RN.size == 0:
        raise RunError(f"{place}expected values, or seeds x values, got the shape {values_RN.shape}")
    if not np.isfinite(values_RN).all():
        raise RunError(f"{place}values must be finite")
    return values_RN


@dataclass(frozen=True, slots=True)
class Run:
    """Which design a run trained, with which seed."""

    design: str
    seed: int


@dataclass(frozen=True, slots=True)
class BenchmarkScores:
    """One benchmark by clusters, of all runs."""

    name: str
    share: float
    """Its part of the average over benchmarks; the shares of all benchmarks sum to 1."""
    means_R: Array
    residuals_RK: Array
    """Scaled such that the variance of a weighted sum of runs is the sum of its squared residuals."""
    questions: int
    values_RK: Array
    """The mean of each cluster."""
    most: float = 1.0
    """What a question can score at most; the least is 0."""

    @property
    def clusters(self) -> int:
        return self.values_RK.shape[1]


@dataclass(frozen=True, slots=True)
class RunScores:
    """All runs of a comparison. Every run answered every question of every benchmark."""

    runs: tuple[Run, ...]
    benchmarks: tuple[BenchmarkScores, ...]

    @property
    def means(self) -> Array:
        """The average of each run over the benchmarks."""
        return sum((one.share * one.means_R for one in self.benchmarks), np.zeros(len(self.runs)))

    @property
    def clusters(self) -> int:
        return sum(one.clusters for one in self.benchmarks)

    @property
    def questions(self) -> int:
        return sum(one.questions for one in self.benchmarks)

    @property
    def most(self) -> float:
        """What an average can be at most."""
        return sum(one.share * one.most for one in self.benchmarks)

    def covariance(self) -> Array:
        """Of the runs' averages, over other questions of the same kind; training is taken as it was."""
        count = len(self.runs)
        return sum(
            (one.share**2 * one.residuals_RK @ one.residuals_RK.T for one in self.benchmarks), np.zeros((count, count))
        )

    def only(self, names: Collection[str]) -> RunScores:
        """Averaged over these benchmarks alone. Raises RunError where none is here."""
        kept = [one for one in self.benchmarks if one.name in names]
        if not kept:
            raise RunError(f"no benchmark of {', '.join(names)} was answered")
        whole = sum(one.share for one in kept)
        return RunScores(self.runs, tuple(replace(one, share=one.share / whole) for one in kept))

    def without_seeds(self, seeds: Collection[int]) -> RunScores:
        """Without the runs of these seeds, of each design that has others."""
        others = {run.design for run in self.runs if run.seed not in seeds}
        return self._rows([n for n, run in enumerate(self.runs) if run.seed not in seeds or run.design not in others])

    def first(self, counts: Mapping[str, int]) -> RunScores:
        """Only the named designs, of each the first so many runs."""
        return self._rows([row for name, rows in self.designs().items() for row in rows[: counts.get(name, 0)]])

    def _rows(self, kept: list[int]) -> RunScores:
        benchmarks = tuple(
            replace(
                one,
                means_R=one.means_R[kept],
                residuals_RK=one.residuals_RK[kept],
                values_RK=one.values_RK[kept],
            )
            for one in self.benchmarks
        )
        return RunScores(tuple(self.runs[row] for row in kept), benchmarks)

    def designs(self) -> dict[str, list[int]]:
        """The positions of each design's runs, designs in the order they first appear."""
        found: dict[str, list[int]] = {}
        for position, run in enumerate(self.runs):
            found.setdefault(run.design, []).append(position)
        return found

    def mean_of(self, design: str) -> Array:
        """The coefficients, one a run, of a design's mean over its seeds."""
        own = [run.design == design for run in self.runs]
        return np.array(own, dtype=np.float64) / max(sum(own), 1)


def run_scores(
    runs: Sequence[Run],
    values: Mapping[str, ArrayLike],
    *,
    clusters: Mapping[str, Sequence[str]] | None = None,
    weights: Mapping[str, ArrayLike] | None = None,
    shares: Mapping[str, float],
    most: Mapping[str, float] | None = None,
) -> RunScores:
    """From R x N scores of each benchmark.

    Args:
        clusters: the image of each question, by benchmark; a benchmark without makes each question its own.
        weights: how much each question counts in its benchmark's mean, N of them or R x N; without, all count alike.
        most: what a question can score at most, by benchmark; 1 where nothing is said.

    Raises RunError: no values, values that are not finite, or numbers of runs, clusters or weights that do not fit.
    """
    found = []
    for name, given in values.items():
        values_RN = table(given, name)
        if len(values_RN) != len(runs):
            raise RunError(f"{name}: scores of {len(values_RN)} runs; expected {len(runs)}")
        weights_RN = _weights((weights or {}).get(name), values_RN, name)
        one = _benchmark(name, shares[name], values_RN, (clusters or {}).get(name), weights_RN)
        found.append(replace(one, most=(most or {}).get(name, 1.0)))
    if not found:
        raise RunError("no benchmark to average")
    return RunScores(tuple(runs), tuple(found))


def _benchmark(
    name: str, share: float, values_RN: Array, clusters: Sequence[str] | None, weights_RN: Array
) -> BenchmarkScores:
    questions = values_RN.shape[1]
    weighted_RN = values_RN * weights_RN
    if clusters is None:
        sums_RK, counts_RK = weighted_RN, weights_RN
    else:
        if len(clusters) != questions:
            raise RunError(f"{name + ': ' if name else ''}{questions} values and {len(clusters)} clusters")
        _, member_N = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        counts_RK = np.stack([np.bincount(member_N, weights=row) for row in weights_RN])
        sums_RK = np.stack([np.bincount(member_N, weights=row) for row in weighted_RN])
    total_R1, count = counts_RK.sum(1, keepdims=True), counts_RK.shape[1]
    means_R1 = sums_RK.sum(1, keepdims=True) / total_R1
    scale = np.sqrt(count / (count - 1)) if count > 1 else 0.0
    residuals_RK = (sums_RK - means_R1 * counts_RK) * scale / total_R1
    return BenchmarkScores(name, share, means_R1[:, 0], residuals_RK, questions, sums_RK / counts_RK)


def _weights(weights: ArrayLike | None, values_RN: Array, name: str) -> Array:
    """Weights of the questions in every run, scaled to 1 on average."""
    place = f"{name}: " if name else ""
    if weights is None:
        return np.ones_like(values_RN)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape not in (values_RN.shape, values_RN.shape[1:]):
        raise RunError(f"{place}{values_RN.shape[1]} values and {given.size} weights")
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise RunError(f"{place}weights must be positive")
    return np.broadcast_to(given / given.mean(-1, keepdims=True), values_RN.shape)
