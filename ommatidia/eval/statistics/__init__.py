"""Statistics of scores: intervals, paired comparisons, corrections. numpy and scipy only; deterministic by a seed."""

from ommatidia.eval.statistics.attribution import Attribution, attribution
from ommatidia.eval.statistics.comparison import Comparison, Verdict, compare, compare_macro, judge, mcnemar, verdict
from ommatidia.eval.statistics.correlation import spearman
from ommatidia.eval.statistics.interval import Interval, bootstrap_interval, macro_interval
from ommatidia.eval.statistics.multiplicity import holm
from ommatidia.eval.statistics.power import UNLIKE, expected_difference, minimum_detectable_difference
from ommatidia.eval.statistics.suites import (
    compare_suites,
    group_averages,
    macro_average,
    macro_mean,
    seeds_by_benchmark,
)

__all__ = [
    "UNLIKE",
    "Attribution",
    "Comparison",
    "Interval",
    "Verdict",
    "attribution",
    "bootstrap_interval",
    "compare",
    "compare_macro",
    "compare_suites",
    "expected_difference",
    "group_averages",
    "holm",
    "judge",
    "macro_average",
    "macro_interval",
    "macro_mean",
    "mcnemar",
    "minimum_detectable_difference",
    "seeds_by_benchmark",
    "spearman",
    "verdict",
]
