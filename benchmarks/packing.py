"""Packed against padded rows at LLaVA-like lengths: operations, time and memory of the decoder. Prints JSON.

python -m benchmarks.packing [--rounds 5] [--samples 16] [--micro 4] [--threads 1]

The samples of ``benchmarks.llava_step`` in the order they come, ``--micro`` of them in a padded row batch, or one
behind another in packs of as many positions on average. Forward and backward of the decoder alone, float32. The gain in
theory is padded over real positions; ``share_of_theory`` is the counted gain in operations over it (attention gains
more than positions do, so it may exceed 1). Time: rounds interleaved, median of each round's own ratio. Memory: bytes
that autograd keeps for the way back, the largest micro-batch of each side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.llava_step import dialogues, our_config
from ommatidia.core.malloc import keep_memory
from ommatidia.models.build import build_model
from ommatidia.models.language import LanguageModel
from ommatidia.train.engine import Packing
from ommatidia.train.packing import packs

TARGET = 0.95
MicroBatch = tuple[Tensor, Tensor, tuple[int, ...] | None]
"""ids_BT, mask_BT, lengths of a pack."""


def run(language: LanguageModel, batches: list[MicroBatch]) -> None:
    for ids_BT, mask_BT, lengths in batches:
        h_BTE = language(language.embed(ids_BT), mask_BT, lengths)
        h_BTE[mask_BT].square().mean().backward()


def kept(language: LanguageModel, batches: list[MicroBatch]) -> int:
    """Bytes kept for the way back, of the micro-batch that keeps most."""
    most = 0
    for batch in batches:
        seen: dict[int, int] = {}

        def note(tensor: Tensor, seen: dict[int, int] = seen) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor):
            run(language, [batch])
        most = max(most, sum(seen.values()) - sum(p.nbytes for p in language.parameters()))
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    keep_memory()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        language = build_model(our_config(Path(folder)), seed=0).language
    examples = dialogues(given.samples)
    real = sum(len(example.ids) for example in examples)
    padded: list[MicroBatch] = []
    for first in range(0, len(examples), given.micro):
        rows = [example.ids.clamp(min=0) for example in examples[first : first + given.micro]]
        ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths_B1 = torch.tensor([[len(row)] for row in rows])
        padded.append((ids_BT, torch.arange(ids_BT.shape[1]) < lengths_B1, None))
    packed: list[MicroBatch] = []
    for row in packs(examples, Packing(tokens=round(real / given.samples * given.micro))):
        ids_1T = torch.cat([example.ids.clamp(min=0) for example in row])[None]
        packed.append((ids_1T, torch.ones_like(ids_1T, dtype=torch.bool), tuple(len(e.ids) for e in row)))
    sides: dict[str, list[MicroBatch]] = {"padded": padded, "packed": packed}
    flops: dict[str, float] = {}
    for side, batches in sides.items():
        with FlopCounterMode(display=False) as counter:
            run(language, batches)
        flops[side] = float(counter.get_total_flops())
    taken: dict[str, list[float]] = {side: [] for side in sides}
    clock: Callable[[], float] = time.process_time
    for _ in range(given.rounds):
        for side, batches in sides.items():
            began = clock()
            run(language, batches)
            taken[side].append(clock() - began)
    bytes_kept = {side: kept(language, batches) for side, batches in sides.items()}
    theory = sum(ids_BT.numel() for ids_BT, _, _ in padded) / real
    gain = flops["padded"] / flops["packed"]
    ratios = [slow / fast for slow, fast in zip(taken["padded"], taken["packed"], strict=True)]
    result: dict[str, Any] = {
        "target": TARGET,
        "gain_in_theory": round(theory, 3),
        "gain_in_operations": round(gain, 3),
        "share_of_theory": round(gain / theory, 3),
        "gain_in_time": round(statistics.median(ratios), 3),
        "mib_kept": {side: round(count / 2**20, 1) for side, count in bytes_kept.items()},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
