"""What a strategy decides on: the scores of finished trials as runs, and the noise that training again has in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ommatidia.eval.statistics import NoiseModel, Run, RunScores, noise_model
from ommatidia.eval.suites import suite_scores
from ommatidia.lab.run.trial import Trial
from ommatidia.lab.run.trial import scores_of as scores_of_trials


def scores_of(designs: Mapping[str, Sequence[Trial]]) -> RunScores:
    """Finished trials of each design, one a seed, as runs that answered the same questions.

    Benchmarks are averaged as designs are ranked. Raises RunError when the trials answered unlike questions, or have
    unlike scorers or judges.
    """
    return suite_scores({
        Run(name, trial.recipe.seed): trial.full for name, trials in designs.items() for trial in trials
    })  # fmt: skip


def noise_of(trials: Sequence[Trial]) -> NoiseModel:
    """What training a design again does to its score, as the finished trials of a store or a search tell.

    It says how uncertain it is (``deviation_interval``), and that it is not known where no design has several seeds.
    Raises RunError as ``scores_of`` does.
    """
    return noise_model(scores_of_trials(trial for trial in trials if not trial.error))
