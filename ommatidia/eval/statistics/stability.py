"""Whether benchmarks fall into groups at all, and how far the groups would be others with other models.

How many components. Horn's parallel analysis (1965, Psychometrika 30) counts those whose share of the variance is
larger than in unrelated scores. Behind a strong common component it finds none of the others, so each is compared with
scores that have the components before it and no more (Green, Levy, Thompson, Lu and Lo 2012, Educational and
Psychological Measurement 72). One component alone says that some models are better at everything: it makes no groups.

How stable. Models are drawn with replacement and grouped again; the adjusted Rand index (Hubert and Arabie 1985,
Journal of Classification 2) says how much of a grouping comes back: 1 all of it, 0 what chance would.

Shapes: M models, B benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.grouping import Method, tree
from ommatidia.eval.statistics.run_scores import Array

FEWEST_MODELS = 4
"""With three models every two benchmarks are almost a line."""

_DRAWS = 200
_LARGEST = 0.98


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of benchmarks, by column. Empty where the scores show none."""

    members: tuple[tuple[int, ...], ...]
    components: int
    """Components of the scores that chance does not make."""
    index: float | None = None
    """Mean adjusted Rand index of the groups over redrawn models; None without groups."""
    together_BB: Array | None = None
    """How often two benchmarks fall into one group over redrawn models."""

    def words(self, models: str) -> str:
        """One sentence; ``models`` says whose scores these are and how many: "12 models"."""
        if self.members:
            return (
                f"{len(self.members)} groups: {self.components} components of the scores of {models} are beyond chance."
                f" Over redrawn {models.partition(' ')[2]} the adjusted Rand index of the groups is {self.index:.2f} "
                "(1: they always come back, 0: no more than by chance)."
            )
        if self.components == 1:
            return f"The scores of {models} show one common component and, beyond it, no groups."
        return f"The scores of {models} show no component beyond chance, and no groups."


def find_groups(
    scores_MB: Array, *, count: int | None = None, method: Method = "pearson", draws: int = _DRAWS, seed: int = 0
) -> Groups:
    """Average-linkage groups, as many as there are components or ``count``, and how stable they are.

    There are none where fewer than two components are beyond chance, whatever ``count`` asks. Raises RunError when a
    score is missing, or a benchmark scores all models alike.
    """
    _check(scores_MB)
    components = count_components(scores_MB, draws=draws, seed=seed) if len(scores_MB) >= FEWEST_MODELS else 0
    if components < 2:
        return Groups((), components)
    wanted = components if count is None else count
    correlation_BB = _correlation(scores_MB, method)
    cut = tree(correlation_BB).cut(wanted)
    labels_B = _labels(cut, scores_MB.shape[1])
    redrawn = [_labels(tree(one).cut(wanted), len(labels_B)) for one in _redrawn(scores_MB, method, draws, seed)]
    index = float(np.mean([adjusted_rand(labels_B, other_B) for other_B in redrawn]))
    together_BB = np.mean([np.equal.outer(other_B, other_B) for other_B in redrawn], axis=0)
    return Groups(tuple(cut), components, index, together_BB)


def count_components(scores_MB: Array, *, draws: int = _DRAWS, error: float = 0.05, seed: int = 0) -> int:
    """Components one after the other, as long as each is larger than in all but ``error`` of scores without it."""
    models, benchmarks = scores_MB.shape
    rng = np.random.default_rng(seed)
    correlation_BB = np.asarray(np.corrcoef(scores_MB.T))
    observed_B = _sizes(scores_MB)
    for count in range(min(models - 1, benchmarks) - 1):
        root_BB = _root(_fitted(correlation_BB, count))
        by_chance = [_sizes(rng.standard_normal((models, benchmarks)) @ root_BB.T)[count] for _ in range(draws)]
        if observed_B[count] <= np.quantile(by_chance, 1.0 - error):
            return count
    return min(models - 1, benchmarks) - 1


def adjusted_rand(first: Sequence[int], second: Sequence[int]) -> float:
    """Agreement of two groupings of the same things, corrected for chance; 1 where both are one group."""
    together = [sum(comb(int(n), 2) for n in np.unique(labels, return_counts=True)[1]) for labels in (first, second)]
    pairs = [f"{a}/{b}" for a, b in zip(first, second, strict=True)]
    both = sum(comb(int(n), 2) for n in np.unique(pairs, return_counts=True)[1])
    expected = together[0] * together[1] / comb(len(first), 2)
    most = (together[0] + together[1]) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def _check(scores_MB: Array) -> None:
    if not np.isfinite(scores_MB).all():
        raise RunError("groups of benchmarks need models with every score")
    if (alike_B := np.ptp(scores_MB, axis=0) == 0).any():
        raise RunError(f"column {int(np.flatnonzero(alike_B)[0])} scores all models alike: it belongs to no group")


def _sizes(scores_MB: Array) -> Array:
    """Eigenvalues of the correlation matrix, the largest first."""
    standard_MB = (scores_MB - scores_MB.mean(0)) / scores_MB.std(0)
    sizes = np.linalg.svd(standard_MB, compute_uv=False) ** 2 / len(scores_MB)
    return np.pad(sizes, (0, max(0, scores_MB.shape[1] - len(sizes))))


def _fitted(correlation_BB: Array, count: int) -> Array:
    """The correlation that so many common factors leave (principal axes), and nothing else."""
    fitted_BB = np.zeros_like(correlation_BB)
    common_B = np.full(len(correlation_BB), 0.7)
    for _ in range(30 if count else 0):
        reduced_BB = correlation_BB.copy()
        np.fill_diagonal(reduced_BB, common_B)
        sizes_B, axes_BB = np.linalg.eigh(reduced_BB)
        loadings_BC = axes_BB[:, -count:] * np.sqrt(np.maximum(sizes_B[-count:], 0.0))
        fitted_BB = loadings_BC @ loadings_BC.T
        common_B = np.clip(np.diag(fitted_BB), 0.0, _LARGEST)
    np.fill_diagonal(fitted_BB, 1.0)
    return fitted_BB


def _root(covariance_BB: Array) -> Array:
    sizes_B, axes_BB = np.linalg.eigh(covariance_BB)
    return np.asarray(axes_BB * np.sqrt(np.maximum(sizes_B, 0.0)))


def _correlation(scores_MB: Array, method: Method) -> Array:
    if method == "spearman":
        from scipy.stats import rankdata

        scores_MB = rankdata(scores_MB, axis=0)
    return np.asarray(np.corrcoef(scores_MB.T))


def _redrawn(scores_MB: Array, method: Method, draws: int, seed: int) -> list[Array]:
    """Correlations over models drawn with replacement; draws in which a benchmark scores all alike are left out."""
    rng = np.random.default_rng(seed)
    drawn = [scores_MB[rng.integers(0, len(scores_MB), len(scores_MB))] for _ in range(draws)]
    return [_correlation(one_MB, method) for one_MB in drawn if (np.ptp(one_MB, axis=0) > 0).all()]


def _labels(groups: Sequence[Sequence[int]], count: int) -> list[int]:
    """The number of each column's group."""
    found = [0] * count
    for number, members in enumerate(groups):
        for member in members:
            found[member] = number
    return found
