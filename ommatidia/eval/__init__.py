"""Evaluation: benchmarks, scoring, predict and score as two phases, statistics. Knows no model and no data format."""

from ommatidia.eval.benchmark import GROUPS, Benchmark, BenchmarkConfig, Chosen, Group, Score, SourceBenchmark
from ommatidia.eval.benchmarks import Published
from ommatidia.eval.evaluate import Answerer, Predicted, predict, score_file
from ommatidia.eval.prompts import MODES, Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring import ScorerConfig
from ommatidia.eval.statistics import Estimate, Interval, compare, mean_interval
from ommatidia.eval.suites import compare_suites, macro_average

__all__ = [
    "GROUPS",
    "MODES",
    "Answerer",
    "Benchmark",
    "BenchmarkConfig",
    "Chosen",
    "Estimate",
    "Group",
    "Interval",
    "Mode",
    "Predicted",
    "Published",
    "Score",
    "Scored",
    "ScorerConfig",
    "SourceBenchmark",
    "compare",
    "compare_suites",
    "macro_average",
    "mean_interval",
    "predict",
    "score_file",
]
