"""A mean with its bounds, how benchmarks are averaged, and the quantiles of Student's t."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ommatidia.core.errors import RunError


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds between which it lies with probability ``confidence``."""

    mean: float
    low: float
    high: float
    confidence: float = 0.95
    n: int = 0
    clusters: int = 0
    seeds: int = 1


def macro_weights(names: Sequence[str], groups: Mapping[str, str] | None) -> dict[str, float]:
    """The weight of each benchmark in the overall mean; they sum to 1. Raises RunError when one has no group."""
    if not names:
        raise RunError("no benchmark to average")
    if groups is None:
        return {name: 1.0 / len(names) for name in names}
    if missing := [name for name in names if name not in groups]:
        raise RunError(f"benchmark {missing[0]!r} has no group")
    inside = [groups[name] for name in names]
    return {name: 1.0 / (len(set(inside)) * inside.count(groups[name])) for name in names}


def macro_mean(means: Mapping[str, float], groups: Mapping[str, str]) -> float:
    """The number that ranks designs: the mean over groups of the mean over each group's benchmarks (Cambrian-1,
    section 4). Both by benchmark. Raises RunError without benchmarks, or when one has no group."""
    weights = macro_weights(list(means), groups)
    return sum(weights[name] * mean for name, mean in means.items())


def t_quantile(probability: float, freedom: float) -> float:
    """Of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
