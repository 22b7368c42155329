"""Answers of designs whose true accuracy is known, to see how often the lab's verdicts are right.

A design is right on a question where a latent normal value lies below the quantile of its accuracy. The value is a sum:
what all designs find hard, what one design finds hard with every seed, and each run's own. Questions on one image share
part of it. Two designs of 60 % then differ in about a quarter of the answers, two seeds of one design in a sixth.

Letters: D designs, S seeds, N questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ommatidia.eval.statistics.run_scores import Run, RunScores, run_scores

Array = NDArray[np.float64]
COMMON, OWN = 0.7, 0.15
"""Parts of the latent variance: what all designs share, and what the runs of one design share beyond it."""


@dataclass(frozen=True, slots=True)
class Questions:
    """A benchmark of so many questions, some of them on one image."""

    count: int
    an_image: int = 1
    correlation: float = 0.0
    """Intra-class, of right and wrong within an image."""

    @property
    def images(self) -> list[str]:
        return _images(self.count, self.an_image)

    def latent(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Standard normal values, alike within an image such that right and wrong have the correlation."""
        alike = np.sin(np.pi / 2 * self.correlation)
        images = -(-self.count // self.an_image)
        own = rng.standard_normal((*shape, self.count), dtype=np.float32)
        if alike == 0.0:
            return own
        of_image = rng.standard_normal((*shape, images), dtype=np.float32)
        image = np.repeat(of_image, self.an_image, axis=-1)[..., : self.count]
        return np.float32(np.sqrt(alike)) * image + np.float32(np.sqrt(1 - alike)) * own


@lru_cache(maxsize=64)
def _images(count: int, an_image: int) -> list[str]:
    return [str(number // an_image) for number in range(count)]


def draw_answers(
    rng: np.random.Generator, accuracies: Sequence[float], seeds: int, questions: Questions, *, deviation: float
) -> Array:
    """D x S x N, 1 where right; ``deviation`` is that of a run's accuracy over training seeds, as a fraction."""
    from scipy.special import ndtri

    designs = len(accuracies)
    latent_DSN = (
        np.float32(np.sqrt(COMMON)) * questions.latent(rng, ())
        + np.float32(np.sqrt(OWN)) * questions.latent(rng, (designs, 1))
        + np.float32(np.sqrt(1 - COMMON - OWN)) * questions.latent(rng, (designs, seeds))
    )
    moved_DS = np.asarray(accuracies)[:, None] + deviation * rng.standard_normal((designs, seeds))
    return (latent_DSN < ndtri(np.clip(moved_DS, 0.001, 0.999))[..., None]).astype(np.float64)


def scores_of(answers_DSN: Array, questions: Questions, *, seeds: Sequence[int] | None = None) -> RunScores:
    """Designs named by their numbers; of each only the first ``seeds[d]`` runs, where that is given."""
    designs, most, _ = answers_DSN.shape
    counts = list(seeds) if seeds is not None else [most] * designs
    kept = [(design, seed) for design in range(designs) for seed in range(counts[design])]
    values = np.stack([answers_DSN[design, seed] for design, seed in kept])
    runs = [Run(str(design), seed) for design, seed in kept]
    return run_scores(runs, {"questions": values}, clusters={"questions": questions.images}, shares={"questions": 1.0})
