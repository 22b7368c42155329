"""What ranks do under the options of a stage, on a tiny whole model; one process can do the same, to compare.

Run under a launcher: ``rank_options.py FOLDER`` leaves a folder "<option> <mode>" for each straight run, another with
"again" behind its name for one that went on from the middle, and in ``rank0.json`` and ``rank1.json`` digests of what
each rank then held.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import model_toys
import torch
import whole_model
from rank_toy import finish

from ommatidia.core.types import Example
from ommatidia.models.build import build_model
from ommatidia.models.processor import Processor
from ommatidia.train.pieces import local
from ommatidia.train.ranks import Ranks, process_group
from ommatidia.train.stage import Stage
from ommatidia.train.trainer import Trainer

BATCH, STEPS, SAVED, RATE = 6, 3, 2, 3e-3
LORA = {"adapters": {"language": {"rank": 4}, "encoders.b": {"rank": 2, "dora": True}}}


@dataclass(frozen=True)
class Option:
    """What is changed of a plain stage, and how far two ranks may end from one process."""

    stage: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ("ddp", "fsdp")
    loss: float = 1e-5
    """Of losses, and of gradient norms relative to their size. Float32 sums in another order: about 1e-6 was seen."""
    weight: float = 1e-5
    """Of any number of the result."""


# bfloat16 has 8 bits: a product of other rows of a batch may differ in the last one, which is 0.4 % of a logit.
LOW = 0.05
OPTIONS = {
    # A moment that rounds to the next of its 8-bit levels moves its weight by 3 % of the rate more, or less.
    "adamw_8bit, ema": Option({"optimizer": "adamw_8bit", "ema": 0.7}, weight=0.1 * RATE),
    "adafactor, packing": Option({"optimizer": "adafactor"}, {"packing": {"tokens": 48, "views": 3}}),
    "lora, recompute, chunk": Option({}, {"recompute": {"*": "full"}, "chunk": 8}, LORA),
    "bf16": Option({"precision": "bf16"}, loss=LOW, weight=RATE),
    "bf16, lora on frozen bf16": Option(
        {"precision": "bf16", "frozen_precision": "bf16"}, {}, LORA, ("fsdp",), LOW, RATE
    ),
    # The last bit of a bfloat16 weight of size 1, up and down.
    "bf16_pure, ema": Option({"precision": "bf16_pure", "ema": 0.7}, loss=LOW, weight=2**-6),
    "bf16_pure, adamw_8bit": Option(
        {"precision": "bf16_pure", "optimizer": "adamw_8bit"}, modes=("ddp",), loss=LOW, weight=2**-6
    ),
}


def trainer(folder: Path, ranks: Ranks, option: Option, mode: str) -> Trainer:
    """Six samples of a loop of nine in a step: words alone, one image, two; a rank takes three in two passes."""
    language = {**model_toys.SCRATCH, "layers": 2}
    config = whole_model.config(language=language, **option.model)
    engine = {"timeout": 60.0, "async_save": False, "keep_last": 2, "parallel": mode, **option.engine}
    words = {"sources": {"words": {"source": "train_toy_words"}}}
    stage = Stage.parse({
        "name": "toy", "train": {"*": RATE}, "data": words, "batch": BATCH, "steps": STEPS, "micro_batch": 2,
        "save_every": SAVED, "weight_decay": 0.1, "clip": 0.5, "engine": engine,
        # What is rounding and nothing else, such as a key's bias, is no gradient that a weight should move by.
        "eps": 1e-3,
        "validation": {"data": words, "samples": 3, "every": SAVED}, **option.stage,
    })  # fmt: skip
    processor, given = Processor(config), model_toys.mixed_samples()
    every = [processor(sample) for sample in (*given, *reversed(given), given[1])]

    def batches(start: int) -> Iterator[list[Example]]:
        for step in range(start, STEPS):
            yield [every[(step * BATCH + i) % len(every)] for i in ranks.share(BATCH)]

    return Trainer(
        build_model(config, seed=0),
        stage,
        batches,
        processor.collate if stage.engine.packing is None else processor.pack,
        steps=STEPS,
        folder=folder,
        seed=3,
        ranks=ranks,
        blank=processor.blank,
        held_out=lambda: iter([[every[i] for i in ranks.share(3)]]),
    )


def train(folder: Path, ranks: Ranks, option: Option, mode: str) -> str:
    """Train to the end; a digest of the copies that this rank then holds of what other ranks hold too."""
    run = trainer(folder, ranks, option, mode)
    finish(run, ranks, folder)
    found = hashlib.sha256()
    for tensor in run.trained.parameters(run.parts).values():
        if local(tensor) is tensor:
            found.update(tensor.detach().float().numpy().tobytes())
    return found.hexdigest()


def from_the_middle(straight: Path, folder: Path) -> Path:
    """The folder of a run that did what the one in ``straight`` did up to its first checkpoint."""
    shutil.copytree(straight, folder)
    shutil.rmtree(folder / "checkpoints" / f"step-{STEPS:08d}")
    (folder / "result.safetensors").unlink()
    return folder


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    held = {}
    with process_group() as ranks:
        for name, option in OPTIONS.items():
            for mode in option.modes:
                straight, again = folder / f"{name} {mode}", folder / f"{name} {mode} again"
                held[f"{name} {mode}"] = train(straight, ranks, option, mode)
                if ranks.leads:
                    from_the_middle(straight, again)
                ranks.gather(None)
                train(again, ranks, option, mode)
        (folder / f"rank{ranks.rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
