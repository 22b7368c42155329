"""Random guessing is computed from each metric: by hand where it is simple, by drawing where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import published_fixtures
import pytest
from eval_toys import CountingSource

from ommatidia.core.errors import DataError
from ommatidia.eval import SourceBenchmark
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.chance import chance
from ommatidia.eval.scoring.choice import lettered


def opened(name: str, folder: Path, **fields):
    size = published_fixtures.write(name, folder)
    return BenchmarkConfig.parse({"data": str(folder), "size": size, **fields}).open()


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("pope", {"kind": "pope"}, 0.5),
        ("mme", {"kind": "mme"}, 0.375),  # (1/2 + 1/4) / 2: what Cambrian-1's figure draws as 0.5
        ("mmvp", {"kind": "mmvp"}, 0.25),
        ("seed", {"kind": "seed", "size": None}, 0.25),
        ("textvqa", {"kind": "textvqa"}, 0.0),
    ],
)
def test_known_floors(name, fields, expected, tmp_path):
    given = {key: value for key, value in fields.items() if value is not None}
    published_fixtures.write(name, tmp_path)
    config = BenchmarkConfig.parse({"data": str(tmp_path), "size": 1, **given})
    try:
        benchmark = config.open()
    except DataError as error:  # it says how many rows there are
        size = int(str(error).partition("size=")[2].split()[0])
        benchmark = BenchmarkConfig.parse({"data": str(tmp_path), **given, "size": size}).open()
    assert chance(benchmark) == pytest.approx(expected)


def test_circular_guessing_is_the_product_over_rotations(tmp_path):
    published_fixtures.write("mmbench", tmp_path)
    with pytest.raises(DataError) as caught:
        BenchmarkConfig.parse({"kind": "mmbench", "data": str(tmp_path), "size": 10**6}).open()
    size = int(str(caught.value).partition("size=")[2].split()[0])
    benchmark = BenchmarkConfig.parse({"kind": "mmbench", "data": str(tmp_path), "size": size}).open()
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
    assert 0 < exact < 0.25


def test_an_unreadable_question_is_said(tmp_path):
    source = CountingSource(size=4, broken=(2,))
    config = SourceBenchmark(name="counting", group="general", source=source, scorer="exact")
    with pytest.raises(DataError):
        chance(config.open())
