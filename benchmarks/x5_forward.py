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
from typing import Any

import torch
from torch import Tensor

from benchmarks.eagle_encoders import NAMES, Run, Size, both_sides, picture, quietly
from ommatidia.core.malloc import keep_memory

SAME_WEIGHTS = ("convnext", "eva02_det")


def compare(sides: dict[str, Run], pixels_BCHW: Tensor, *, rounds: int, same: bool) -> dict[str, Any]:
    out = {side: quietly(run, pixels_BCHW) for side, run in sides.items()}
    result: dict[str, Any] = {}
    if same:
        result["difference"] = float((out["ours"] - out["straightforward"]).abs().max())
    del out
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            began = time.process_time()
            quietly(run, pixels_BCHW)
            taken[side].append(time.process_time() - began)
    pairs = zip(taken["straightforward"], taken["ours"], strict=True)
    seconds = {side: round(statistics.median(times), 2) for side, times in taken.items()}
    return {"seconds": seconds, "time_ratio": round(statistics.median(a / b for a, b in pairs), 2), **result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--share", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    keep_memory()
    torch.set_num_threads(given.threads)
    size = Size("cpu", torch.float32, given.share)
    made = both_sides(size)
    result: dict[str, Any] = {"blocks_kept": f"1 of {given.share}"}
    for batch in given.batches:
        pixels_BCHW = picture(batch, size)
        found: dict[str, Any] = {
            name: compare(made[name], pixels_BCHW, rounds=given.rounds, same=name in SAME_WEIGHTS) for name in NAMES
        }
        times = [one["seconds"] for one in found.values()]
        total = {side: round(sum(time[side] for time in times), 1) for side in times[0]}
        found["all five"] = {"seconds": total, "time_ratio": round(total["straightforward"] / total["ours"], 2)}
        result[f"batch {batch}"] = found
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
