"""Random guessing is computed from each metric: by hand where it is simple, by drawing where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from eval_toys import CountingSource
from published_fixtures import write

from ommatidia.core.errors import DataError
from ommatidia.eval import Benchmark, SourceBenchmark
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.chance import chance
from ommatidia.eval.scoring.choice import lettered


def opened(kind: str, folder: Path) -> Benchmark:
    return BenchmarkConfig.parse({"kind": kind, "data": str(folder), "size": write(kind, folder)}).open()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("pope", 0.5),
        ("mme", 0.375),  # (1/2 + 1/4) / 2, where the figure of Cambrian-1 draws 0.5
        ("mmvp", 0.25),
        ("seed", 0.25),
        ("textvqa", 0.0),
        ("mmbench", 0.25),
    ],
)
def test_known_floors(kind, expected, tmp_path):
    assert chance(opened(kind, tmp_path)) == pytest.approx(expected)


def test_circular_guessing_is_the_product_over_rotations(tmp_path):
    benchmark = opened("mmbench", tmp_path)
    samples = list(benchmark.samples())
    rng, rounds = np.random.default_rng(0), 4000
    drawn = []
    for _ in range(rounds):
        letters = [list(lettered(sample.meta["options"])) for sample in samples]
        answers = [options[rng.integers(len(options))] for options in letters]
        scores = [benchmark.score(sample, answer) for sample, answer in zip(samples, answers, strict=True)]
        drawn.append(benchmark.summary(scores)["score"])
    exact = chance(benchmark)
    assert abs(np.mean(drawn) - exact) < 4 * np.std(drawn) / rounds**0.5 + 1e-9


def test_an_unreadable_question_is_said(tmp_path):
    source = CountingSource(size=4, broken=(2,))
    config = SourceBenchmark(name="counting", group="general", source=source, scorer="exact")
    with pytest.raises(DataError):
        chance(config.open())
