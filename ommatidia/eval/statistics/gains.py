"""What one change adds, over all pairs of designs that differ by it alone.

The gain is the mean over the pairs. All pairs answer the same questions, so the questions' variance is that of the mean
itself, not the mean of the pairs' own. What differs from pair to pair beyond the questions (training, and what the
change does to one design but not to another) is a random effect of each design: its variance is what the pairs' spread
leaves after the questions' part, and a design that stands in several pairs is counted as often (Searle, Casella and
McCulloch 1992, chapter 5). Satterthwaite's formula joins the degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics.estimate import Estimate, estimate, joined
from ommatidia.eval.statistics.noise import UNKNOWN, NoiseModel
from ommatidia.eval.statistics.run_scores import RunScores

SPREAD_FROM = 4
"""Pairs from which on their own spread is used where the noise of training is known otherwise: few say little."""


def mean_gain(scores: RunScores, pairs: Sequence[tuple[str, str]], noise: NoiseModel = UNKNOWN) -> Estimate:
    """The mean, over pairs of designs (with the change, without it), of the difference.

    With a single pair and unknown noise it holds for these two trained models alone. Raises RunError without pairs.
    """
    if not pairs:
        raise RunError("no pair of designs differs by this change alone")
    gains_PR = np.stack([scores.mean_of(more) - scores.mean_of(less) for more, less in pairs])
    weights_R, count = gains_PR.mean(0), len(pairs)
    if count == 1 or (count < SPREAD_FROM and noise.known):
        return estimate(scores, weights_R, noise)
    plain = estimate(scores, weights_R)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    member_PD = np.array([[(name == more) - (name == less) for name in names] for more, less in pairs], np.float64)
    effects_PP = member_PD @ member_PD.T
    left_PP = np.eye(count) - 1.0 / count
    gain_P = gains_PR @ scores.means
    raw = float(gain_P @ left_PP @ gain_P)
    questions = float(np.sum(left_PP * (gains_PR @ scores.covariance() @ gains_PR.T)))
    scale = float(effects_PP.sum()) / count**2 / float(np.sum(left_PP * effects_PP))
    return joined(plain, [(max(0.0, raw - questions) * scale, raw * scale, count - 1)])
