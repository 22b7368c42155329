"""What a strategy decides on: the scores of finished trials as runs, and the noise that training again has in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ommatidia.eval.statistics import seeds_by_benchmark
from ommatidia.eval.statistics.interval import macro_weights
from ommatidia.eval.statistics.noise import NoiseModel, noise_model
from ommatidia.eval.statistics.run_scores import Run, RunScores, run_scores
from ommatidia.lab.trial import Trial, by_design


def scores_of(designs: Mapping[str, Sequence[Trial]]) -> RunScores:
    """Finished trials of each design, one a seed, as runs that answered the same questions.

    Benchmarks are averaged as designs are ranked. Raises RunError when the trials answered unlike questions, or have
    unlike scorers or judges.
    """
    runs = [Run(name, trial.recipe.seed) for name, trials in designs.items() for trial in trials]
    scored = [one for trials in designs.values() for trial in trials for one in trial.full]
    first = {one.benchmark: one for one in reversed(scored)}
    return run_scores(
        runs,
        seeds_by_benchmark(scored),
        clusters={name: one.clusters for name, one in first.items()},
        weights={name: one.weights for name, one in first.items()},
        shares=macro_weights(list(first), {name: one.group for name, one in first.items()}),
    )


def noise_of(trials: Sequence[Trial]) -> NoiseModel:
    """What training a design again does to its score, as the finished trials of a store or a search tell.

    It says how uncertain it is (``deviation_interval``), and that it is not known where no design has several seeds.
    Raises RunError as ``scores_of`` does.
    """
    finished = [trial for trial in trials if not trial.error]
    return noise_model(scores_of(by_design(finished)))
