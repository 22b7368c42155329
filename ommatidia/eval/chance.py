"""What a uniform random guess scores, computed and not drawn: the floor that a benchmark's number stands on."""

from __future__ import annotations

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Benchmark, cluster_of
from ommatidia.eval.scoring.score import Score, mean


def chance(benchmark: Benchmark) -> float:
    """The expected headline of guessing: one of the options, yes or no, and nothing for open answers.

    The benchmark's own metric joins the guesses: MMBench needs every rotation right, MMVP both halves of a pair, and
    MME adds the share of images with both right, so that yes-or-no guesses score 37.5 there and not 50. Guesses are
    independent; a model that always says the same does otherwise. Raises DataError when a question cannot be read.
    """
    guesses = []
    for _, sample in benchmark.readable():
        if isinstance(sample, DataError):
            raise sample
        guesses.append(_guess(benchmark, sample))
    return mean(benchmark.units(guesses))


def _guess(benchmark: Benchmark, sample: Sample) -> Score:
    scorer, task = benchmark.scorer, sample.meta.get("task")
    tags = {**scorer.tags(sample, ""), **({} if task is None else {"task": str(task)})}
    return Score(sample.id, scorer.guess(sample), cluster_of(sample), tags=tags)
