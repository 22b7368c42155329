"""Eagle's round robin (section 3.6): start from a base set, each round try every remaining expert, keep the best.

The first seed explores. The additions that look best are trained again with fresh seeds, and the best one is kept where
a test that allows for all of them says that it adds something (``confirmation``). The search ends when none is kept,
when no expert is left, or when the budget ends. Then the best mixture is tried with each of ``variants`` (another
fusion, say), and the designs that matter are repeated with all seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, model_validator

from ommatidia.core.config import overridden
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.names import fit_name
from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.run.trial import Trial, told_apart
from ommatidia.lab.search.confirmation import base_runs, judge_all, most_runs, next_step
from ommatidia.lab.search.decisions import scores_of
from ommatidia.lab.search.rounds import Candidate, Round, choose, decide, looks_of
from ommatidia.lab.search.strategy import Strategy, missing
from ommatidia.models.vision.encoder import EncoderConfig

Experts = tuple[str, ...]


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
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """That a round keeps nothing when no expert adds anything."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """The first seed explores, the others confirm; with one seed, what a round keeps is a lead. Designs on the final
    table have all of them. A base is trained with further seeds, the next integers."""
    contenders: int = Field(4, ge=1)
    """Additions of a round that are trained again after the exploring seed, one fewer after each fresh seed."""
    finalists: int = Field(3, ge=1)
    """How many of the best designs go on the final table, besides the path, the variants and the blind model."""
    max_trials: int | None = Field(None, ge=1)
    """Trainings that the rounds may ask for; variants and repeated finalists come on top."""
    blind: bool = True

    @model_validator(mode="after")
    def _known(self) -> RoundRobin:
        for name in self.start:
            if name not in self.pool:
                raise ConfigError(f"start: {unknown('expert', name, self.pool)}")
        if not self.pool:
            raise ConfigError("pool: no experts to choose from")
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds: each once, got {', '.join(map(str, self.seeds))}")
        return self

    @property
    def choosing_seeds(self) -> tuple[int, ...]:
        return self.seeds[:1]

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
        """Every round in full, as if experts were kept in pool order after the last look; what the search costs if it
        never stops early."""
        base, left = self.start, [name for name in self.pool if name not in self.start]
        runs: dict[Experts, int] = {tuple(recipe.model.encoders): 1 for recipe in self.first()}
        while left and len(base) < self.max_experts:
            additions = [(*base, name) for name in left]
            if base:
                counts = most_runs(len(left), looks=self._looks, contenders=self.contenders)
                runs |= {base: base_runs(len(left), self._looks), **dict(zip(additions, counts, strict=True))}
            base = additions[0]
            left.pop(0)
        seeing = sorted((experts for experts in runs if experts), key=lambda experts: runs[experts])
        every = ([()] if self.blind else []) + seeing[: self.finalists]
        recipes = [one for experts, count in runs.items() for one in self._repeats(experts, count)]
        recipes += [final for experts in every for final in self._repeats(experts, len(self.seeds))]
        recipes += [variant.seeded(seed) for variant in self._variants(base) for seed in self.seeds]
        return tuple({recipe.digest(): recipe for recipe in recipes}.values())

    @property
    def _looks(self) -> int:
        """Fresh seeds that an addition may have."""
        return len(self.seeds) - 1

    def _repeats(self, experts: Experts, count: int) -> list[Recipe]:
        """The first so many runs of a set."""
        recipe = self.design(experts)
        return [recipe.seeded(seed) for seed in itertools.islice(self._every_seed(), count)]

    def _every_seed(self) -> Iterator[int]:
        """The seeds in their order, and behind them the integers from zero on that are not among them."""
        yield from self.seeds
        yield from (seed for seed in itertools.count() if seed not in self.seeds)

    def rounds(self, trials: Sequence[Trial]) -> tuple[list[Round], tuple[Recipe, ...]]:
        """The path so far, and the recipes the current round still waits for (empty when the path is complete).

        A round depends on the runs that it asked for alone, whatever else has been trained since. A run whose scores
        cannot be compared with the others counts as one that failed.
        """
        trials = told_apart(trials)
        if waiting := missing(self.first(), trials):
            return [], waiting
        walk = _Walk(self, {trial.recipe.digest(): trial for trial in trials})
        while not walk.ended:
            walk.step()
        return walk.path, walk.waiting

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
        sets = list(dict.fromkeys(experts for experts in (one.result for one in path) if experts))
        designs = ([self.design(())] if self.blind else []) + [self.design(experts) for experts in sets]
        designs += self._variants(_best_mixture(path))
        working = [t for t in told_apart(trials) if not t.error and t.recipe.model.encoders]
        first = [t for t in working if t.recipe.seed == self.seeds[0]]
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


class _Walk:
    """The path of a search, round after round, as far as its finished trials go."""

    def __init__(self, strategy: RoundRobin, done: Mapping[str, Trial]) -> None:
        self.strategy, self.done = strategy, done
        self.path: list[Round] = []
        self.waiting: tuple[Recipe, ...] = ()
        self.ended = False
        self._base = strategy.start
        self._asked = {recipe.digest() for recipe in strategy.first()}
        self._tried: dict[str, Experts] = {}
        """Sets by the address of their design: the base and the additions of every round with a base."""
        self._counts: dict[str, int] = {}
        """Runs of each that the decisions so far rest on."""

    def step(self) -> None:
        """One round more, or the reason why there is none."""
        strategy, base = self.strategy, self._base
        left = [name for name in strategy.pool if name not in base]
        if len(base) >= strategy.max_experts:
            return self._end(f"{strategy.max_experts} experts is the most this search allows")
        if not left:
            return self._end("no expert is left")
        recipes = {name: strategy.design((*base, name)) for name in left}
        if not self._ask(recipes.values()):
            return
        before = self.done[strategy.design(base).digest()] if base else None
        if before is not None and before.error:
            return self._end(f"the base set failed: {before.error}")
        tried = {name: trial for name, recipe in recipes.items() if not (trial := self.done[recipe.digest()]).error}
        if not tried:
            return self._end("every addition failed")
        if base:
            self._confirm(tried)
        else:
            self._add(choose(tried))

    def _confirm(self, tried: Mapping[str, Trial]) -> None:
        """A round with a base: ask for fresh seeds until it is decided."""
        base, strategy = self._base, self.strategy
        names = {strategy.design((*base, name)).design(): name for name in tried}
        address = strategy.design(base).design()
        self._tried |= {address: base} | {one: (*base, name) for one, name in names.items()}
        most = dict(self._counts)
        most |= {address: max(most.get(address, 1), base_runs(len(names), strategy._looks))}
        most |= dict.fromkeys(names, 1 + strategy._looks)
        runs = {one: self._runs(self._tried[one], count) for one, count in most.items()}
        scores = scores_of({one: found for one, (found, _) in runs.items()})
        step = next_step(
            scores,
            address,
            list(names),
            looks=strategy._looks,
            contenders=strategy.contenders,
            error=1.0 - strategy.confidence,
            counts=self._counts,
            failed=[one for one, (_, failed) in runs.items() if failed],
        )
        candidates = [
            Candidate(names[one], tried[names[one]], addition, step.last.counts[one])
            for one, addition in judge_all(scores, address, list(names), step.last).items()
        ]
        looks = looks_of(step.looks, names, address)
        if step.wanted is None:
            self._counts = dict(step.last.counts)
            return self._add(decide(base, candidates, looks, names.get(step.kept or ""), behind=step.behind))
        wanted = [recipe for one, count in step.wanted.items() for recipe in strategy._repeats(self._tried[one], count)]
        undecided = Round(base, tuple(candidates), None, "", "undecided", looks)
        if not self._ask(wanted, undecided):
            return
        broken = next(trial for recipe in wanted if (trial := self.done[recipe.digest()]).error)
        self._end(f"the base set failed with seed {broken.recipe.seed}: {broken.error}", undecided)

    def _runs(self, experts: Experts, most: int) -> tuple[list[Trial], bool]:
        """The first runs of a set that a round may use, up to one that is missing or failed; whether it failed."""
        found: list[Trial] = []
        for recipe in self.strategy._repeats(experts, most):
            trial = self.done.get(recipe.digest())
            if trial is None or trial.error:
                return found, trial is not None
            found.append(trial)
        return found, False

    def _ask(self, recipes: Collection[Recipe], undecided: Round | None = None) -> bool:
        """Whether these have all been carried out. Otherwise the walk waits for them, or ends with the budget."""
        strategy, asked = self.strategy, self._asked | {recipe.digest() for recipe in recipes}
        if strategy.max_trials is not None and len(asked) > max(strategy.max_trials, len(self._asked)):
            self._end(f"the budget of {strategy.max_trials} trials ended", undecided)
            return False
        self._asked = asked
        self.waiting = tuple(recipe for recipe in recipes if recipe.digest() not in self.done)
        self.ended = bool(self.waiting)
        return not self.waiting

    def _add(self, one: Round) -> None:
        self.path.append(one)
        self._base, self.ended = one.result, one.kept is None

    def _end(self, reason: str, undecided: Round | None = None) -> None:
        """A last round without a decision, and why."""
        last = undecided or Round(self._base, (), None, "", "ended")
        self.path.append(replace(last, reason=reason))
        self.ended = True


def _best_mixture(path: Sequence[Round]) -> tuple[str, ...]:
    """The largest kept set if it is a mixture, else the best mixture that was tried; one expert has nothing to vary."""
    final = path[-1].result if path else ()
    if len(final) > 1:
        return final
    tried = {(*one.base, c.expert): c.trial.average for one in path for c in one.tried if one.base}
    return max(tried, key=lambda experts: tried[experts], default=final)
