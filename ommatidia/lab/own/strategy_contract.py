"""What every search strategy keeps: a pure function of finished trials that ends."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ommatidia.eval.prompts import Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.score import Score
from ommatidia.eval.statistics import mean_interval
from ommatidia.lab.own.contract import Contract, check, expect
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.trial import Trial
from ommatidia.lab.search.strategy import Strategy

_QUESTIONS, _TRIALS = 60, 500


def made_up_trial(recipe: Recipe, *, fails: bool = False) -> Trial:
    """A recipe carried out by nobody: answers drawn from its digest, equal for equal recipes."""
    if fails:
        return Trial(recipe, error="the loss is not finite")
    seed = int.from_bytes(hashlib.sha256(recipe.digest().encode()).digest()[:4])
    right = np.random.default_rng(seed).random((len(recipe.benchmarks), _QUESTIONS)) < 0.5
    scored: dict[tuple[str, Mode], Scored] = {}
    for benchmark, values in zip(recipe.benchmarks, right, strict=True):
        scores = tuple(Score(f"{n}", float(value), cluster=f"{n}") for n, value in enumerate(values))
        interval = mean_interval([score.value for score in scores])
        made = Scored(benchmark.name, benchmark.group, "full", "", "exact", 1, scores, scores, interval)
        scored[benchmark.name, "full"] = made
    return Trial(recipe, scored)


@dataclass
class StrategyContract(Contract):
    """Checks of one strategy, a kind's ``tiny()``, over made-up results."""

    config: Strategy

    def searched(self, *, failing: int = 0) -> list[Trial]:
        """All that it proposes, carried out; of every so many trials one fails."""
        trials: list[Trial] = []
        while recipes := self.config.propose(trials):
            asked = {trial.recipe.digest() for trial in trials}
            again = [recipe.label() for recipe in recipes if recipe.digest() in asked]
            expect(not again, f"it proposes what is done already: {again[:1]}")
            for recipe in recipes:
                trials.append(made_up_trial(recipe, fails=bool(failing) and len(trials) % failing == failing - 1))
            expect(len(trials) <= _TRIALS, f"it has proposed {len(trials)} trials and does not end")
        return trials

    @check
    def config_round_trip(self) -> None:
        """its config is written and read again"""
        again = Strategy.parse(self.config.to_dict())
        expect(again == self.config and again.digest() == self.config.digest(), "what is read is another config")

    @check
    def ends(self) -> None:
        """it proposes something, never the same twice, and ends"""
        expect(self.searched(), "it proposes nothing at all")

    @check
    def pure(self) -> None:
        """equal trials give equal proposals"""
        trials = self.searched()
        for count in (0, len(trials) // 2, len(trials)):
            one, two = (_digests(self.config.propose(trials[:count])) for _ in range(2))
            expect(one == two, f"asked twice after {count} trials, it proposes other recipes")
        other = Strategy.parse(self.config.to_dict())
        expect(_digests(other.propose(())) == _digests(self.config.propose(())), "an equal strategy proposes another")

    @check
    def first(self) -> None:
        """first() is what it proposes before any result"""
        proposed, known = _digests(self.config.propose(())), set(_digests(self.config.first()))
        expect(set(proposed) <= known, "before any result it proposes what first() does not name")

    @check
    def failures(self) -> None:
        """it goes on where designs fail"""
        self.searched(failing=3)


def _digests(recipes: Sequence[Recipe]) -> list[str]:
    return [recipe.digest() for recipe in recipes]
