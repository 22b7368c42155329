"""Samples and positions a second of the quickstart's tuned mixture: training steps and greedy answering. Prints JSON.

python -m benchmarks.tokens [--steps 6] [--questions 256] [--micro-batch N]

Features are stored, as in the search; the first step and the first batch are not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import islice

import torch

from benchmarks.tuned_stage import TunedStage
from ommatidia.models.generate import Decoding, generate


def training(made: TunedStage, steps: int) -> dict[str, float]:
    """Of whole optimiser steps, made ready by the loader beforehand."""
    trainer, batch = made.trainer(), made.job.stage.batch
    reports = [trainer.step(examples) for examples in islice(made.batches(), steps + 1)][1:]
    seconds = statistics.median(report.seconds for report in reports)
    positions = statistics.mean(report.tokens for report in reports)
    return {"samples_per_s": round(batch / seconds, 1), "positions_per_s": round(positions / seconds)}


def loading(made: TunedStage, batches: int) -> float:
    """Samples a second that the loader and processor make ready by themselves."""
    running = made.batches()
    next(running)
    began = time.perf_counter()
    examples = sum(len(batch) for batch in islice(running, batches))
    return round(examples / (time.perf_counter() - began), 1)


def answering(made: TunedStage, questions: int) -> float:
    """Answers a second at six new tokens each, in batches of 64."""
    samples, decoding = made.prompts(questions), Decoding(max_new_tokens=6)
    generate(made.model, made.processor, samples[:64], decoding)
    began = time.perf_counter()
    generate(made.model, made.processor, samples, decoding)
    return round(questions / (time.perf_counter() - began), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--micro-batch", type=int, help="instead of the recipe's")
    given = parser.parse_args()
    made = TunedStage.make(micro_batch=given.micro_batch)
    result = {
        "training": training(made, given.steps),
        "loading_samples_per_s": loading(made, given.steps),
        "answers_per_s": answering(made, given.questions),
        "threads": torch.get_num_threads(),
        "micro_batch": made.job.stage.micro_batch,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
