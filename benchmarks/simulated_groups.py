"""Scores of many models on sixteen benchmarks with known groups, to see how often groups are found, and rightly."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from ommatidia.eval.statistics.stability import adjusted_rand, find_groups

Truth = Literal["one factor", "four groups"]
TRUTHS: tuple[Truth, ...] = get_args(Truth)
BENCHMARKS, GROUPS = 16, 4
ONE, WITHIN, BETWEEN = 0.65, 0.8, 0.5
"""Correlations: of all benchmarks; or inside a group and between groups."""


@dataclass(frozen=True, slots=True)
class GroupCell:
    """What is behind the scores, and of how many models they are."""

    truth: Truth
    models: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_simulated_groups(cell: GroupCell, rng: np.random.Generator, simulations: int) -> dict[str, float]:
    """How often groups are reported, how like the true ones they then are, and how stable they are said to be."""
    group = np.repeat(range(GROUPS), BENCHMARKS // GROUPS)
    within, between = (ONE, ONE) if cell.truth == "one factor" else (WITHIN, BETWEEN)
    correlation = np.where(group[:, None] == group, within, between)
    np.fill_diagonal(correlation, 1.0)
    root = np.linalg.cholesky(correlation)
    agreement, stability = [], []
    for _ in range(simulations):
        found = find_groups(rng.standard_normal((cell.models, BENCHMARKS)) @ root.T, draws=100)
        if found.index is None:
            continue
        labels = [number for place in range(BENCHMARKS) for number, of in enumerate(found.members) if place in of]
        agreement.append(adjusted_rand(labels, group.tolist()))
        stability.append(found.index)
    rates = {"groups_reported": len(agreement) / simulations}
    if agreement and cell.truth == "four groups":
        rates |= {"index_to_the_truth": float(np.mean(agreement)), "stability_said": float(np.mean(stability))}
    return rates
