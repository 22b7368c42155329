"""What saving and resuming cost a run, relative to training that does neither. Prints JSON.

python -m benchmarks.resume [--steps 60] [--every 20] [--rounds 5] [--width 384]

One model (a decoder of a few million weights, every one of them trained with AdamW, so that a checkpoint is as large
relative to a step as it gets) is trained in four ways, in turns, in one process: without checkpoints on the
way, with synchronous ones, with asynchronous ones, and stopped in the middle and resumed. ``overhead`` is the median of
each round's own ratio to the first way, less one. The last checkpoint, which every way writes, is in all of them.
Where a step is not always as fast as the last one, those say little; the two costs behind them are measured apart, in
steps: ``save_over_step`` of one synchronous save, so that the cost of any ``save_every`` n is ``save_over_step / n``,
and ``stop_over_step`` of one stop with its save, and going on behind it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ommatidia.core.console import Console, use
from ommatidia.core.types import Example
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.train.checkpoint import Checkpoints
from ommatidia.train.interrupt import StoppedError
from ommatidia.train.optim import optimizer_state
from ommatidia.train.stage import Stage
from ommatidia.train.trainer import Trainer


def model_config(width: int) -> MLLMConfig:
    """A decoder alone."""
    language = {"kind": "scratch", "width": width, "layers": 4, "heads": 4, "context": 256}
    return MLLMConfig.parse({"encoders": {}, "language": language, "chat": "compact"})


class Ways:
    """The same stage, trained in several ways."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.config = given, model_config(given.width)
        self.processor = Processor(self.config)
        ids = torch.arange(128) % 60 + 4
        self.examples = [Example(f"s{i}", ids.roll(i), ids.roll(i)) for i in range(4)]

    def trainer(
        self, folder: Path, *, every: int | None, background: bool, steps: int, stop: int | None = None
    ) -> Trainer:
        """``stop``: the step in which SIGTERM arrives."""
        source = {"kind": "drawn_attributes", "split": "train", "pictures": 4, "per_picture": 1, "size": 40}
        value = Stage.parse(
            {
                "name": "resume",
                "train": {"language": 1e-4},
                "data": {"sources": {"drawn": {"source": source}}},
                "steps": steps,
                "batch": len(self.examples),
                "save_every": every,
                "engine": {"async_save": background},
            }
        )

        def batches(start: int) -> Iterator[list[Example]]:
            for step in range(start, steps):
                if step == stop:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield self.examples

        model: MLLM = build_model(self.config, seed=0)
        return Trainer(model, value, batches, self.processor.collate, steps=steps, folder=folder, seed=0)

    def seconds(
        self, *, every: int | None = None, background: bool = True, stop: int | None = None, steps: int | None = None
    ) -> float:
        """Of training, from the first step to the last checkpoint, with a stop on the way or without; building left
        out."""
        total, steps = 0.0, steps or self.given.steps
        with tempfile.TemporaryDirectory() as folder:
            for at in (None,) if stop is None else (stop, None):
                run = self.trainer(Path(folder), every=every, background=background, stop=at, steps=steps)
                began = time.perf_counter()
                with contextlib.suppress(StoppedError):
                    run.fit()
                total += time.perf_counter() - began
            assert run.done == steps
        return total

    def one_stop(self) -> float:
        """Seconds of a stop and of going on: what a run of few steps takes longer with one than without."""
        few, longer = 6, []
        for _ in range(4 * self.given.rounds):
            straight = self.seconds(steps=few)
            longer.append(self.seconds(steps=few, stop=few // 2) - straight)
        return statistics.median(longer)

    def one_save(self) -> dict[str, Any]:
        """Bytes of a checkpoint, and the time of a synchronous save and of a step."""
        with tempfile.TemporaryDirectory() as folder:
            run = self.trainer(Path(folder), every=None, background=False, steps=self.given.steps)
            steps, saves = [], []
            for _ in range(6):
                began = time.perf_counter()
                run.step(self.examples)
                steps.append(time.perf_counter() - began)
            state = optimizer_state(run.optimizer, run.trained.parameters(run.parts))
            groups = {"trained": run.trained.tensors(run.parts), "optimizer": state}
            for step in range(3):
                began = time.perf_counter()
                place = Checkpoints(Path(folder)).save(step, groups, {})
                saves.append(time.perf_counter() - began)
            size = sum(path.stat().st_size for path in place.iterdir())
        step_seconds, save_seconds = statistics.median(steps), statistics.median(saves)
        return {
            "checkpoint_mb": round(size / 1e6, 1),
            "step_seconds": round(step_seconds, 4),
            "save_seconds": round(save_seconds, 4),
            "save_over_step": round(save_seconds / step_seconds, 2),
            "overhead_at_save_every_200": round(save_seconds / step_seconds / 200, 4),
            "stop_over_step": round((stopped := self.one_stop() / step_seconds), 2),
            "overhead_of_a_stop_in_200_steps": round(stopped / 200, 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 60), ("every", 20), ("rounds", 5), ("width", 384)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with use(Console(quiet=True, json_only=True)):
        ways = Ways(given)
        ways.seconds()  # warms up
        taken: dict[str, list[float]] = {"straight": [], "sync": [], "async": [], "resumed": []}
        for _ in range(given.rounds):
            taken["straight"].append(ways.seconds())
            taken["sync"].append(ways.seconds(every=given.every, background=False))
            taken["async"].append(ways.seconds(every=given.every))
            taken["resumed"].append(ways.seconds(stop=given.steps // 2))
        found: dict[str, Any] = {"steps": given.steps, "every": given.every, **ways.one_save()}
    for name in ("sync", "async", "resumed"):
        pairs = zip(taken[name], taken["straight"], strict=True)
        found[f"{name}_overhead"] = round(statistics.median(one / plain for one, plain in pairs) - 1, 4)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
