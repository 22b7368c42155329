"""What an expert is worth to a mixture: conditional utilisation rate and information gap, with paired intervals.

With acc the score of the whole mixture and acc(i) that without expert i, the conditional utilisation rate is
u(i) = (acc - acc(i)) / acc and the information gap is max u - min u over the experts ("Investigating redundancy in
multimodal large language models with multiple vision encoders", ICLR 2026). All were asked the same questions, so their
scores have a joint covariance; that of the rates follows by linearising the ratio (the delta method).

The largest of several noisy rates less the smallest is above zero where all are equal. The gap's interval is therefore
the gap less and plus the 95 % quantile of the range of rates without differences but with this noise: its lower bound
is above zero in 5 % of cases under equality. Letters: D designs, E experts, R runs, T draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ommatidia.eval.statistics.estimate import estimate
from ommatidia.eval.statistics.interval import Interval
from ommatidia.eval.statistics.ranking import normal_draws
from ommatidia.eval.statistics.run_scores import Array, RunScores


@dataclass(frozen=True, slots=True)
class Attribution:
    """The whole mixture, and by ablation: what is left, what is lost, and what share of the whole that is."""

    full: Interval
    left: dict[str, Interval]
    lost: dict[str, Interval]
    utilisation: dict[str, Interval | None]
    """None where the whole mixture scores nothing: a share of it cannot be told."""
    gap: Interval | None
    """Over ``experts``; None where there are fewer than two or nothing to share."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return asdict(self)


def attribution(
    scores: RunScores,
    whole: str,
    *,
    experts: Sequence[str],
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Attribution:
    """From the scores of the design ``whole`` and of others, each of which is it under one ablation.

    ``experts`` names the ablations that take one expert away each: the gap is taken over them.
    """
    names = [name for name in scores.designs() if name != whole]
    whole_R = scores.mean_of(whole)
    left = {name: scores.mean_of(name) for name in names}
    found = Attribution(
        estimate(scores, whole_R).interval(confidence),
        {name: estimate(scores, left_R).interval(confidence) for name, left_R in left.items()},
        {name: estimate(scores, whole_R - left_R).interval(confidence) for name, left_R in left.items()},
        dict.fromkeys(names),
        None,
    )
    full = float(whole_R @ scores.means)
    if full <= 0:
        return found
    slopes = {name: _slope(scores, whole_R, left_R, full) for name, left_R in left.items()}
    rates = {name: 1.0 - float(left_R @ scores.means) / full for name, left_R in left.items()}
    for name, slope_R in slopes.items():
        half = estimate(scores, slope_R, bounds=_reachable(scores, full)).half_width(1.0 - confidence)
        low, high = rates[name] - half, min(1.0, rates[name] + half)
        found.utilisation[name] = _interval(scores, rates[name], low, max(high, rates[name]), confidence)
    if len(experts) < 2:
        return found
    values = [rates[name] for name in experts]
    gap = max(values) - min(values)
    slopes_ER = np.stack([slopes[name] for name in experts])
    reach = _reach(scores, slopes_ER, _reachable(scores, full), confidence, draws, seed)
    return Attribution(
        found.full, found.left, found.lost, found.utilisation,
        _interval(scores, gap, max(0.0, gap - reach), gap + reach, confidence),
    )  # fmt: skip


def _slope(scores: RunScores, whole_R: Array, left_R: Array, full: float) -> Array:
    """How the rate 1 - left / whole moves with the runs' scores."""
    return whole_R * (float(left_R @ scores.means) / full**2) - left_R / full


def _reachable(scores: RunScores, full: float) -> tuple[float, float]:
    """Between which bounds one answer can move a rate, or a difference of rates: a share of the whole's score."""
    return -scores.most / full, scores.most / full


def _reach(
    scores: RunScores, slopes_ER: Array, bounds: tuple[float, float], confidence: float, draws: int, seed: int
) -> float:
    """The quantile of the range of rates that differ by noise alone; where answers show none, what can hide there."""
    covariance_EE = slopes_ER @ scores.covariance() @ slopes_ER.T
    range_T = np.ptp(normal_draws(covariance_EE, draws, np.random.default_rng(seed)), axis=1)
    pairs = [a - b for n, a in enumerate(slopes_ER) for b in slopes_ER[:n]]
    estimates = [estimate(scores, pair_R, bounds=bounds) for pair_R in pairs]
    unseen = max(one.unseen(1.0 - confidence) for one in estimates)
    if any(one.clusters < 2 for one in scores.benchmarks):
        unseen = max(unseen, *(one.half_width(1.0 - confidence) for one in estimates))
    return float(np.hypot(np.quantile(range_T, confidence), unseen))


def _interval(scores: RunScores, mean: float, low: float, high: float, confidence: float) -> Interval:
    return Interval(mean, low, high, confidence, scores.questions, scores.clusters)
