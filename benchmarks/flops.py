"""Operations of real optimiser steps against the planner's formula, on the quickstart's tuned mixture. Prints JSON.

python -m benchmarks.flops [--steps 8] [--micro-batch N]

Counted by ``torch.utils.flop_counter`` over forward and backward: all matrix products and convolutions, those of padded
positions too; what is elementwise is counted on neither side. Attention is given in two ways. ``executed``: as the
counter has it, the whole square of positions and, in the backward pass, the scores made again. ``causal``: the
convention of the formula (and of most papers), half the square, backward twice the forward. ``ratio`` is the stricter
one, ``executed``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.tuned_stage import TunedStage
from ommatidia.core.types import Batch, Example
from ommatidia.lab.price.cost import SampleTokens, training_price
from ommatidia.models.vision.encoder import EncoderConfig

TARGET = 1.05
FORWARD_SHARE, BACKWARD_SHARE = 1 / 2, 2 / 5
"""Of what the counter says of attention: half of the forward; backward, 2 of the 2.5 squares it counts, halved."""


@dataclass
class Counted:
    """Operations of some optimiser steps by nature, and the positions they computed."""

    matrix: float = 0.0
    attention: float = 0.0
    attention_causal: float = 0.0
    positions: int = 0
    padded: int = 0
    examples: list[Example] = field(default_factory=list)

    def take(self, by_operator: Mapping[Any, int]) -> None:
        for operator, flops in by_operator.items():
            if "attention" in str(operator):
                self.attention += flops
                self.attention_causal += flops * (BACKWARD_SHARE if "backward" in str(operator) else FORWARD_SHARE)
            else:
                self.matrix += flops


def count(made: TunedStage, steps: int) -> Counted:
    """Run optimiser steps under the counter."""
    counted = Counted()

    def collate(examples: Sequence[Example]) -> Batch:
        batch = made.processor.collate(examples)
        counted.positions += int(batch.mask_BT.sum())
        counted.padded += batch.ids_BT.numel()
        return batch

    trainer = made.trainer(collate=collate)
    for examples in islice(made.batches(), steps):
        with FlopCounterMode(display=False) as counter:
            trainer.step(examples)
        counted.take(counter.get_flop_counts()["Global"])
        counted.examples += examples
    return counted


def formula(made: TunedStage, examples: Sequence[Example]) -> float:
    """The planner's price of these very samples, from their mean lengths."""
    n = len(examples)
    visual = sum(len(example.views) for example in examples) * made.processor.tokens_per_view
    views = sum(len(example.views) for example in examples) / n
    tokens = SampleTokens(
        pictures=views,
        visual=visual / n,
        text=(sum(len(example.ids) for example in examples) - visual) / n,
        supervised=sum(example.supervised for example in examples) / n,
        views=views,
        samples=n,
    )
    return training_price(made.job.weights.model, made.job.stage, made.stored, tokens, n).flops


def trunk_ratio(encoder: EncoderConfig) -> float:
    """Counted over priced operations of one image through a trunk: what stored features save."""
    module, (rows, columns) = encoder.build(pretrained=False).eval(), encoder.preprocess().size
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module.features(torch.zeros(1, 3, rows, columns))
    return counter.get_total_flops() / encoder.trunk_cost().flops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, help="instead of the recipe's; 1 is without padding")
    given = parser.parse_args()
    made = TunedStage.make(micro_batch=given.micro_batch)
    counted = count(made, given.steps)
    expected, n = formula(made, counted.examples), len(counted.examples)
    executed, causal = counted.matrix + counted.attention, counted.matrix + counted.attention_causal
    result = {
        "ratio": round(executed / expected, 4),
        "ratio_causal": round(causal / expected, 4),
        "target": TARGET,
        "formula_mflop_per_sample": round(expected / n / 1e6, 2),
        "executed_mflop_per_sample": round(executed / n / 1e6, 2),
        "padded_over_useful_positions": round(counted.padded / counted.positions, 4),
        "attention_share": round(counted.attention / executed, 4),
        "trunks": {n: round(trunk_ratio(e), 4) for n, e in made.job.weights.model.encoders.items()},
        "samples": n,
        "micro_batch": made.job.stage.micro_batch,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
