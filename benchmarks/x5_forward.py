"""The five encoders of Eagle-X5 at 1024 px here against the straightforward modules, on the CPU. Prints JSON.

python -m benchmarks.x5_forward [--batches 1 4] [--rounds 2] [--share 6] [--threads 2]

Full width and resolution, float32, no gradients, one block of ``--share`` (1: all of them, which takes an hour): both
sides lose alike, so the ratio stands for the whole. See ``benchmarks/eagle_encoders.py`` for the two sides. Processor
seconds, sides in turns, median of each round's own ratio; ``difference`` is the largest of the outputs where both sides
have the same weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from benchmarks.eagle_encoders import NAMES, Run, Size, picture, quietly, sides
from ommatidia.core.malloc import keep_memory

SAME_WEIGHTS = ("convnext", "eva02_det")


def compare(made: dict[str, Run], pixels_BCHW: Tensor, *, rounds: int, same: bool) -> dict[str, Any]:
    out = {side: quietly(run, pixels_BCHW) for side, run in made.items()}
    result: dict[str, Any] = {}
    if same:
        result["difference"] = float((out["ours"] - out["straightforward"]).abs().max())
    del out
    taken: dict[str, list[float]] = {side: [] for side in made}
    for _ in range(rounds):
        for side, run in made.items():
            began = time.process_time()
            quietly(run, pixels_BCHW)
            taken[side].append(time.process_time() - began)
    pairs = zip(taken["straightforward"], taken["ours"], strict=True)
    seconds = {side: round(statistics.median(times), 2) for side, times in taken.items()}
    return {"seconds": seconds, "time_ratio": round(statistics.median(a / b for a, b in pairs), 2), **result}


def one(name: str, batch: int, given: argparse.Namespace) -> dict[str, Any]:
    """Both sides of one encoder, in a process of their own: laid out, the scores of one batch fill the memory."""
    keep_memory()
    torch.set_num_threads(given.threads)
    size = Size("cpu", torch.float32, given.share)
    return compare(sides(name, size), picture(batch, size), rounds=given.rounds, same=name in SAME_WEIGHTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--share", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    result: dict[str, Any] = {"blocks_kept": f"1 of {given.share}"}
    for batch in given.batches:
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
            found: dict[str, Any] = {name: pool.submit(one, name, batch, given).result() for name in NAMES}
        times = [times["seconds"] for times in found.values()]
        total = {side: round(sum(time[side] for time in times), 1) for side in times[0]}
        found["all five"] = {"seconds": total, "time_ratio": round(total["straightforward"] / total["ours"], 2)}
        result[f"batch {batch}"] = found
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
