"""Evaluation: benchmarks, scoring, predict and score as two phases, statistics. Knows no model and no data format."""

from ommatidia.eval.benchmark import GROUPS, Benchmark, BenchmarkConfig, Group, Score, SourceBenchmark
from ommatidia.eval.comparison import Comparison, compare, compare_macro, compare_scored, judge
from ommatidia.eval.evaluate import Answerer, Predicted, predict, score_file
from ommatidia.eval.prompts import MODES, Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring import ScorerConfig
from ommatidia.eval.statistics import Interval, MacroAverage, bootstrap_interval, macro_average

__all__ = [
    "GROUPS",
    "MODES",
    "Answerer",
    "Benchmark",
    "BenchmarkConfig",
    "Comparison",
    "Group",
    "Interval",
    "MacroAverage",
    "Mode",
    "Predicted",
    "Score",
    "Scored",
    "ScorerConfig",
    "SourceBenchmark",
    "bootstrap_interval",
    "compare",
    "compare_macro",
    "compare_scored",
    "judge",
    "macro_average",
    "predict",
    "score_file",
]
