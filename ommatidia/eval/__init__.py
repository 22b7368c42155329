"""Evaluation: benchmarks, scoring, predict and score as two phases, statistics. Knows no model and no data format."""

from ommatidia.eval.benchmark import GROUPS, Benchmark, BenchmarkConfig, Chosen, Group, Score, SourceBenchmark
from ommatidia.eval.benchmarks import Published
from ommatidia.eval.evaluate import Answerer, Predicted, predict, score_file
from ommatidia.eval.prompts import MODES, Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring import ScorerConfig
from ommatidia.eval.statistics import (
    Comparison,
    Interval,
    bootstrap_interval,
    compare,
    compare_suites,
    judge,
    macro_average,
)

__all__ = [
    "GROUPS",
    "MODES",
    "Answerer",
    "Benchmark",
    "BenchmarkConfig",
    "Chosen",
    "Comparison",
    "Group",
    "Interval",
    "Mode",
    "Predicted",
    "Published",
    "Score",
    "Scored",
    "ScorerConfig",
    "SourceBenchmark",
    "bootstrap_interval",
    "compare",
    "compare_suites",
    "judge",
    "macro_average",
    "predict",
    "score_file",
]
