"""Statistics of scores: estimates with their noise, rankings, selection, attribution. numpy and scipy only."""

from ommatidia.eval.statistics.attribution import Attribution, attribution
from ommatidia.eval.statistics.correlation import spearman
from ommatidia.eval.statistics.estimate import Estimate, Verdict, compare, estimate, mean_interval, verdict_of
from ommatidia.eval.statistics.interval import Interval, macro_mean, macro_weights
from ommatidia.eval.statistics.noise import NoiseModel, noise_model
from ommatidia.eval.statistics.power import UNLIKE, expected_difference, minimum_detectable_difference
from ommatidia.eval.statistics.run_scores import Run, RunScores, run_scores

__all__ = [
    "UNLIKE",
    "Attribution",
    "Estimate",
    "Interval",
    "NoiseModel",
    "Run",
    "RunScores",
    "Verdict",
    "attribution",
    "compare",
    "estimate",
    "expected_difference",
    "macro_mean",
    "macro_weights",
    "mean_interval",
    "minimum_detectable_difference",
    "noise_model",
    "run_scores",
    "spearman",
    "verdict_of",
]
