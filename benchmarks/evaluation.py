"""Batched evaluation against one sample at a time, and looking once against looking again. Prints JSON.

python -m benchmarks.evaluation [--rounds 7] [--pictures 12] [--batch 32]

The quickstart's design, its language model untrained, answers its own kind of questions, three on each image. Both
ways go through ``predict`` into a fresh file and give equal answers. ``alone``: one sample a batch, every image seen
for each question. ``batched``: as ``omma eval`` does it. ``shared`` and ``again`` differ only in whether trunk features
are kept. Rounds are interleaved; a ratio is the median of each round's own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import ommatidia.data  # noqa: F401  (registers the sources)
from ommatidia.core.console import Console, use
from ommatidia.core.types import Sample
from ommatidia.eval import Benchmark, BenchmarkConfig, predict
from ommatidia.eval.answers import read_answers
from ommatidia.models.build import build_model
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.processor import Processor
from ommatidia.models.sharing import SharedFeatures
from ommatidia.recipes.quickstart import design

TARGET = 1.5
Answer = Callable[[Sequence[Sample]], list[str]]


def timed(benchmark: Benchmark, answer: Answer, batch: int) -> tuple[float, dict[str, str]]:
    """Samples a second, and what was said."""
    with tempfile.TemporaryDirectory() as folder, use(Console(quiet=True)):
        path = Path(folder) / "answers.jsonl"
        began = time.perf_counter()
        done = predict(benchmark, answer, path, batch=batch)
        rate = done.asked / (time.perf_counter() - began)
        return rate, {name: record.answer or "" for name, record in read_answers(path).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = design().model
    model, processor = build_model(config, seed=0).eval(), Processor(config)
    source = {"kind": "easy_vqa", "split": "test", "pictures": given.pictures, "per_picture": 3}
    benchmark = BenchmarkConfig.parse(
        {"kind": "source", "name": "shapes", "group": "general", "source": source, "scorer": "exact"}
    ).open()
    decoding = Decoding(max_new_tokens=6)

    def alone(samples: Sequence[Sample]) -> list[str]:
        return generate(model, processor, samples, decoding, batch=1)

    def again(samples: Sequence[Sample]) -> list[str]:
        return generate(model, processor, samples, decoding, batch=given.batch)

    def shared(samples: Sequence[Sample]) -> list[str]:
        return SharedFeatures(model, processor, batch=given.batch).answer(samples, decoding)

    rates: dict[str, list[float]] = {"alone": [], "again": [], "shared": []}
    said = {}
    for number in range(given.rounds + 1):  # the first warms up
        whole = 4 * given.batch
        for name, answer, batch in (("alone", alone, 1), ("again", again, whole), ("shared", shared, whole)):
            rate, said[name] = timed(benchmark, answer, batch)
            if number:
                rates[name].append(rate)
    assert said["alone"] == said["again"] == said["shared"]
    result = {
        "target": TARGET,
        "samples": len(benchmark.samples()),
        "batched_over_alone": round(statistics.median(b / a for b, a in zip(rates["shared"], rates["alone"])), 2),
        "shared_over_again": round(statistics.median(b / a for b, a in zip(rates["shared"], rates["again"])), 2),
        "samples_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "distinct_answers": len(set(said["alone"].values())),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
