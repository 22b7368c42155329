"""The noise of training: how much a design's score moves when it is trained again with another seed.

Model. The score of design d trained with seed s is m_d + g_s + h_ds + what the sampled questions add: g is common to
all designs of one seed (the same order of data), h is each run's own. Both variances are estimated by the analysis of
variance: the mean square of what a linear model leaves unexplained, less the part of it that sampled questions cause
(the trace of the residual projection times the questions' covariance; Searle, Casella and McCulloch 1992, Variance
Components, chapter 5). A negative difference is taken as zero. Designs with a single seed tell nothing and borrow the
variance of the others: one variance for all designs of a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ommatidia.eval.statistics.run_scores import Array, RunScores

SHARED_FROM = 3
"""Designs with several seeds from which on the part that seeds move all designs alike is told apart: with two, half
of the degrees of freedom would be lost."""


@dataclass(frozen=True, slots=True)
class Component:
    """One variance: ``raw`` as observed, with ``freedom`` degrees of freedom, and the part that questions add."""

    raw: float = 0.0
    questions: float = 0.0
    freedom: int = 0

    @property
    def variance(self) -> float:
        return max(0.0, self.raw - self.questions)


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """What training again does to a score, as far as finished runs tell. Scores are fractions, not percent."""

    within: Component
    """Of runs of one design around their mean: all that a seed moves."""
    own: Component
    """Of these, what is left once each seed's common part is taken off: what matters between designs of equal seeds."""
    designs: int
    """Designs with several seeds, which tell it."""

    @property
    def known(self) -> bool:
        """Whether any design has several seeds; without, intervals hold for the trained models, not for the designs."""
        return self.within.freedom > 0

    @property
    def deviation(self) -> float:
        """Standard deviation of one design's score over training seeds."""
        return float(np.sqrt(self.within.variance))

    @property
    def shared(self) -> float:
        """Variance that a seed gives to all designs alike."""
        return max(0.0, self.within.variance - self.own.variance)

    @property
    def correlation(self) -> float:
        """Of two designs' scores over common seeds."""
        return self.shared / self.within.variance if self.within.variance > 0 else 0.0

    def deviation_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Bounds of the standard deviation over seeds, from the chi-square distribution of the observed variance.

        (0, infinity) where no design has several seeds.
        """
        from scipy.special import chdtri

        if not self.known:
            return 0.0, float("inf")
        tail, freedom = (1 - confidence) / 2, self.within.freedom
        bounds = [self.within.raw * freedom / float(chdtri(freedom, upper)) for upper in (tail, 1 - tail)]
        low, high = (float(np.sqrt(max(0.0, bound - self.within.questions))) for bound in bounds)
        return low, high

    def parts(self, scores: RunScores, weights_R: Array) -> list[tuple[float, float, int]]:
        """The variance that seeds give to a weighted sum of runs: (variance, raw variance, degrees of freedom) each."""
        if not self.known:
            return []
        own = float((weights_R**2).sum())
        by_seed: dict[int, float] = {}
        for run, weight in zip(scores.runs, weights_R, strict=True):
            by_seed[run.seed] = by_seed.get(run.seed, 0.0) + float(weight)
        common = sum(weight**2 for weight in by_seed.values())
        found = [(own * self.own.variance, own * self.own.raw, self.own.freedom)]
        if common > 1e-12 and self.shared > 0:
            found.append((common * self.shared, common * self.shared, max(1, self.within.freedom // self.designs)))
        return found

    def covariance(self, scores: RunScores) -> Array:
        """Of the runs' scores, by seeds alone."""
        seeds = np.array([run.seed for run in scores.runs])
        alike = (seeds[:, None] == seeds[None, :]).astype(np.float64)
        return np.eye(len(seeds)) * self.own.variance + alike * self.shared


UNKNOWN = NoiseModel(Component(), Component(), 0)
"""No design has several seeds."""


def noise_model(scores: RunScores) -> NoiseModel:
    """Estimated from the designs that were trained with several seeds; UNKNOWN where there is none."""
    repeated = [positions for positions in scores.designs().values() if len(positions) > 1]
    rows = [position for positions in repeated for position in positions]
    if not rows:
        return UNKNOWN
    design_RD = _indicators([number for number, positions in enumerate(repeated) for _ in positions])
    seed_RS = _indicators([scores.runs[row].seed for row in rows])
    means_R, covariance_RR = scores.means[rows], scores.covariance()[np.ix_(rows, rows)]
    within = _component(design_RD, means_R, covariance_RR)
    own = within
    if len(repeated) >= SHARED_FROM:
        left = _component(np.concatenate([design_RD, seed_RS], axis=1), means_R, covariance_RR)
        own = left if left.freedom >= 2 else within
    return NoiseModel(within, own, len(repeated))


def _component(explained_RC: Array, means_R: Array, covariance_RR: Array) -> Component:
    """The mean square that the columns leave unexplained."""
    basis, sizes, _ = np.linalg.svd(explained_RC, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes.max()]
    freedom = len(means_R) - basis.shape[1]
    if freedom < 1:
        return Component()
    left_RR = np.eye(len(means_R)) - basis @ basis.T
    return Component(
        float(means_R @ left_RR @ means_R) / freedom, float(np.sum(left_RR * covariance_RR)) / freedom, freedom
    )


def _indicators(labels: list[int]) -> Array:
    """One column a label, 1 where a row has it."""
    kinds = sorted(set(labels))
    return np.array([[float(label == kind) for kind in kinds] for label in labels])
