"""Eagle's round robin (section 3.6): start from a base set, each round try every remaining expert, keep the best.

It stops when the best addition gains no more than noise (the paired interval over the same questions reaches down to
zero), when no expert is left, or when the budget ends. Then the best mixture is tried with each of ``variants``
(another fusion, say), and the designs that matter are repeated with the other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from ommatidia.core.config import overridden
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.names import fit_name
from ommatidia.eval.statistics import Comparison
from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.search.strategy import Strategy, missing
from ommatidia.lab.trial import Trial, compare_trials
from ommatidia.models.vision.encoder import EncoderConfig


@dataclass(frozen=True)
class Candidate:
    """One addition of a round and how it compares with the base, on the same questions."""

    expert: str
    trial: Trial
    gain: Comparison | None
    """None in a first round that starts from nothing."""


@dataclass(frozen=True)
class Round:
    """One round: the base set, what was tried, and what was decided."""

    base: tuple[str, ...]
    tried: tuple[Candidate, ...]
    kept: str | None
    reason: str


class RoundRobin(Strategy):
    """Greedy forward selection over a pool of experts."""

    kind: Literal["round_robin"] = "round_robin"
    recipe: Recipe
    """The design with its encoders left out of account: the strategy fills them in."""
    pool: dict[str, EncoderConfig]
    start: tuple[str, ...] = ()
    """The base set; empty makes the first round a comparison of all single experts."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Overrides by dotted path, tried at the end on the kept mixture, or on the best one tried if none was kept."""
    max_experts: int = Field(5, ge=1)
    confidence: float = Field(0.9, gt=0, lt=1)
    """Of the paired interval whose lower end must lie above zero for an addition to count as more than noise."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """The first seed explores; designs on the final table are repeated with the others."""
    finalists: int = Field(3, ge=1)
    """How many of the best designs go on the final table, besides the path, the variants and the blind model."""
    max_trials: int | None = Field(None, ge=1)
    blind: bool = True

    @model_validator(mode="after")
    def _known(self) -> RoundRobin:
        for name in self.start:
            if name not in self.pool:
                raise ConfigError(f"start: {unknown('expert', name, self.pool)}")
        if not self.pool:
            raise ConfigError("pool: no experts to choose from")
        return self

    def design(self, experts: Sequence[str], *, seed: int | None = None) -> Recipe:
        """The recipe that sees through these experts, in this order."""
        chosen = with_encoders(self.recipe, {name: self.pool[name] for name in experts})
        return chosen.seeded(self.seeds[0] if seed is None else seed)

    def first(self) -> tuple[Recipe, ...]:
        opening = [self.design(())] if self.blind else []
        if self.start:
            return (*opening, self.design(self.start))
        return (*opening, *(self.design((name,)) for name in self.pool))

    def horizon(self) -> tuple[Recipe, ...]:
        """Every round in full, as if experts were kept in pool order; what the search costs if it never stops early."""
        recipes = list(self.first())
        base = list(self.start)
        order = [name for name in self.pool if name not in base]
        while order and len(base) < self.max_experts:
            recipes += [self.design([*base, name]) for name in order]
            base.append(order.pop(0))
        finals = recipes[:1] + recipes[-self.finalists :] + self._variants(base)
        recipes += [final.seeded(seed) for seed in self.seeds for final in finals]
        return tuple({recipe.digest(): recipe for recipe in recipes}.values())

    def rounds(self, trials: Sequence[Trial]) -> tuple[list[Round], tuple[Recipe, ...]]:
        """The path so far, and the recipes the current round still waits for (empty when the path is complete)."""
        done = {trial.recipe.digest(): trial for trial in trials}
        path: list[Round] = []
        base = self.start
        if waiting := missing(self.first(), trials):
            return path, waiting
        while len(base) < self.max_experts:
            left = [name for name in self.pool if name not in base]
            recipes = {name: self.design((*base, name)) for name in left}
            waiting = missing(tuple(recipes.values()), trials)
            if waiting:
                if self.max_trials is not None and len(trials) >= self.max_trials:
                    path.append(Round(base, (), None, f"the budget of {self.max_trials} trials ended"))
                    return path, ()
                return path, waiting
            before = done[self.design(base).digest()] if base else None
            if before is not None and before.error:
                path.append(Round(base, (), None, f"the base set failed: {before.error}"))
                return path, ()
            path.append(self._decide(base, before, {name: done[r.digest()] for name, r in recipes.items()}))
            if path[-1].kept is None:
                return path, ()
            base = (*base, path[-1].kept)
        path.append(Round(base, (), None, f"{self.max_experts} experts is the most this search allows"))
        return path, ()

    def _decide(self, base: tuple[str, ...], before: Trial | None, tried: Mapping[str, Trial]) -> Round:
        candidates = tuple(
            Candidate(name, trial, self._gain(before, trial)) for name, trial in tried.items() if not trial.error
        )
        if not candidates:
            return Round(base, (), None, "no expert is left" if not tried else "every addition failed")
        best = max(candidates, key=lambda c: c.trial.average)
        if best.gain is None:
            return Round(base, candidates, best.expert, f"{best.expert} is the best single expert")
        gain, low, high = map(_points, (best.gain.difference, best.gain.interval.low, best.gain.interval.high))
        words = f"{best.expert} adds {gain} points ({100 * self.confidence:.0f} % interval {low} to {high})"
        if best.gain.interval.low > 0:
            return Round(base, candidates, best.expert, f"{words}: kept")
        return Round(base, candidates, None, f"{words}: not more than noise, so the search stops")

    def _gain(self, before: Trial | None, after: Trial) -> Comparison | None:
        if before is None:
            return None
        return compare_trials([after], [before], confidence=self.confidence)

    def _variants(self, experts: Sequence[str]) -> list[Recipe]:
        out = []
        for name, changes in self.variants.items():
            recipe = self.design(experts)
            if len(experts) < 2 and any(path.startswith("model.fusion") for path in changes):
                continue  # one expert has nothing to fuse
            recipe = overridden(recipe, changes.items())
            label = recipe.label()
            same = label == self.design(experts).label()
            out.append(recipe.model_copy(update={"name": fit_name(f"{label} ({name})" if same else label)}))
        return out

    def final_designs(self, trials: Sequence[Trial]) -> list[Recipe]:
        """What the final table holds: blind, the kept sets, the variants and the best others, without their seeds."""
        path, _ = self.rounds(trials)
        sets = list(dict.fromkeys(experts for experts in map(_kept, path) if experts))
        designs = ([self.design(())] if self.blind else []) + [self.design(experts) for experts in sets]
        designs += self._variants(_best_mixture(path))
        first = [t for t in trials if not t.error and t.recipe.seed == self.seeds[0] and t.recipe.model.encoders]
        best = sorted(first, key=lambda t: -t.average)[: self.finalists]
        designs += [trial.recipe for trial in best]
        return list({recipe.digest(): recipe for recipe in designs}.values())

    def propose(self, trials: Sequence[Trial]) -> tuple[Recipe, ...]:
        path, waiting = self.rounds(trials)
        if waiting:
            return waiting
        if waiting := missing(self._variants(_best_mixture(path)), trials):
            return waiting
        finals = self.final_designs(trials)
        return missing([recipe.seeded(seed) for seed in self.seeds for recipe in finals], trials)


def _kept(one: Round) -> tuple[str, ...]:
    """The set a round ends with."""
    return one.base + ((one.kept,) if one.kept else ())


def _best_mixture(path: Sequence[Round]) -> tuple[str, ...]:
    """The largest kept set if it is a mixture, else the best mixture that was tried; one expert has nothing to vary."""
    final = _kept(path[-1]) if path else ()
    if len(final) > 1:
        return final
    tried = {(*one.base, c.expert): c.trial.average for one in path for c in one.tried if one.base}
    return max(tried, key=lambda experts: tried[experts], default=final)


def _points(fraction: float) -> str:
    """With its sign, in points of a percentage."""
    return f"{100 * fraction:+.1f}".replace("-", "−")
