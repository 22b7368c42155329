"""Trainer: one stage of one model, step by step, stoppable at any moment and continued exactly."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from ommatidia.core.console import console
from ommatidia.core.errors import RunError
from ommatidia.core.types import Batch, Example
from ommatidia.train import tracking
from ommatidia.train.checkpoint import Checkpoints, differences
from ommatidia.train.freeze import announce, freeze, load_trained, select, trained_state
from ommatidia.train.interrupt import Interrupt, StoppedError, watch
from ommatidia.train.metrics import FILE, MetricsLog, StepReport, read_metrics
from ommatidia.train.optim import adamw, clip_gradients, load_optimizer, optimizer_state, schedule, set_rate
from ommatidia.train.stage import Stage


class Trainable(Protocol):
    """What can be trained; ``ommatidia.models.mllm.MLLM`` is one."""

    def parts(self) -> dict[str, nn.Module]: ...

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Sum of the losses, and over how many targets: supervised tokens, or views where one encoder is distilled."""
        ...

    def targets(self, example: Example) -> int:
        """How many targets an example brings: the losses of a batch are divided by their sum."""
        ...


Batches = Callable[[int], Iterator[list[Example]]]
"""From a start step: the examples of that optimiser step and of every later one."""
Collate = Callable[[Sequence[Example]], Batch]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """A finished stage, resumed runs counted as one."""

    steps: int
    resumed: int
    """Step after which this process took over; 0 when it did everything."""
    loss: float | None
    """Mean over the last tenth of the steps, in nats per supervised token; None when the metrics file was lost."""
    tokens: int
    supervised: int
    seconds: float
    wait: float
    """Seconds of those spent waiting for data."""
    metrics: Path


class Trainer:
    """Trains what ``stage.train`` names in ``model`` and freezes the rest.

    Args:
        batches: gives lists of exactly ``stage.batch`` examples, as a function of the step alone.
        collate: pads examples into one batch.
        steps: optimiser steps, ``stage.total_steps(size)``.
        folder: where metrics and checkpoints lie; a later trainer with the same folder goes on from there.
        seed: with the step, fixes every random draw of the model (dropout).
        key: what else fixes the result (start weights, data); a checkpoint made under another key is refused.
        log: further places for the metrics.

    Raises ConfigError when a pattern matches nothing or a trained parameter is not held in float32.
    """

    def __init__(
        self,
        model: Trainable,
        stage: Stage,
        batches: Batches,
        collate: Collate,
        *,
        steps: int,
        folder: Path,
        seed: int,
        device: torch.device | str = "cpu",
        key: str = "",
        log: Sequence[tracking.Destination] = (),
    ) -> None:
        self.model, self.stage, self.steps, self.seed, self.done = model, stage, steps, seed, 0
        self.device = torch.device(device)
        self.parts = model.parts()
        for part in self.parts.values():
            part.to(self.device)
        self.trained = select(self.parts, stage.train)
        freeze(self.parts, self.trained)
        self.optimizer = adamw(self.parts, self.trained, stage)
        self._batches, self._collate = batches, collate
        self._folder, self._key, self._log = Path(folder), key, tuple(log)
        self._checkpoints = Checkpoints(self._folder / "checkpoints")

    def fit(self) -> TrainReport:
        """Train to the last step, going on from the newest whole checkpoint in the folder.

        SIGINT and SIGTERM finish the step, save, and end with KeyboardInterrupt and StoppedError that say where.

        Raises RunError for a batch without supervised tokens, a non-finite loss (before the optimiser step), data that
        ends early, a checkpoint of another run, or a folder that cannot be written.
        """
        announce(f"stage {self.stage.name}: {self.steps} steps of {self.stage.batch}", self.parts, self.trained)
        self._warn_of_batch_norm()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), watch() as interrupt:
            resumed = self._resume()
            with MetricsLog(self._folder / FILE, after=resumed) as metrics:
                if self.done < self.steps:
                    self._run(metrics, interrupt)
        self.optimizer.zero_grad(set_to_none=True)
        return self._report(resumed)

    def step(self, examples: Sequence[Example], *, wait: float = 0.0) -> StepReport:
        """One optimiser step on ``stage.batch`` examples, after ``wait`` seconds spent waiting for them."""
        began = time.perf_counter() - wait
        supervised = self._supervised(examples)
        torch.manual_seed(step_seed(self.seed, self.done))  # dropout depends on the step, never on what ran before
        self.optimizer.zero_grad(set_to_none=True)

        micro_batches = self._split(examples)
        sums = [self._forward_backward(micro_batch, supervised) for micro_batch in micro_batches]
        norm = clip_gradients(self.optimizer, self.stage.clip)
        loss_sum, norm_value = self._check(micro_batches, sums, norm)

        factor = schedule(self.done, total=self.steps, warmup=self.stage.warmup, shape=self.stage.schedule)
        set_rate(self.optimizer, factor)
        self.optimizer.step()
        self.done += 1
        return StepReport(
            step=self.done,
            loss=loss_sum / supervised,
            rates={pattern: peak * factor for pattern, peak in self.stage.train.items()},
            norm=norm_value,
            tokens=sum(example.ids.numel() for example in examples),
            supervised=supervised,
            seconds=time.perf_counter() - began,
            wait=wait,
        )

    def result(self) -> dict[str, Tensor]:
        """What the stage changed, on the CPU, as "<part>:<name>"; ``freeze.load_trained`` puts it back."""
        return trained_state(self.parts, self.trained)

    def _split(self, examples: Sequence[Example]) -> list[Sequence[Example]]:
        """Micro-batches of like lengths, so that little is padded; the sum over tokens does not mind the order."""
        size = self.stage.micro_batch or self.stage.batch
        examples = sorted(examples, key=lambda example: example.ids.numel())
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def _forward_backward(self, micro_batch: Sequence[Example], supervised: int) -> Tensor:
        """The micro-batch's token-loss sum; its share of the batch's mean loss goes to the gradients."""
        batch = self._collate(micro_batch).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.stage.precision == "bf16"):
            loss_sum, count = self.model.loss(batch)
        if count != (wanted := sum(map(self.model.targets, micro_batch))):
            raise RunError(
                f"{self._place()}: the model scored {count} positions, {wanted} are labelled; {_ids(micro_batch)}"
            )
        if loss_sum.requires_grad:  # a text-only micro-batch reaches nothing that trains when only visual parts do
            (loss_sum / supervised).backward()
        return loss_sum.detach()

    def _supervised(self, examples: Sequence[Example]) -> int:
        """Supervised tokens of the optimiser batch over all ranks. Raises RunError when there are none."""
        if len(examples) != self.stage.batch:
            raise RunError(f"{self._place()}: got {len(examples)} samples, the stage's batch is {self.stage.batch}")
        supervised = global_count(sum(map(self.model.targets, examples)))
        if supervised == 0:
            what = (
                "this data teaches nothing: no token of the first batch" if self.done == 0 else "no token of this batch"
            )
            raise RunError(f"{self._place()}: {what} is supervised; {_ids(examples)}")
        return supervised

    def _check(
        self, micro_batches: Sequence[Sequence[Example]], sums: Sequence[Tensor], norm: Tensor
    ) -> tuple[float, float]:
        """The loss sum and the gradient norm as numbers: the one wait for the device. Raises RunError if not finite."""
        values = torch.stack([value.float() for value in (*sums, norm.to(self.device))])
        finite, numbers = values.isfinite().tolist(), values.tolist()
        if not all(finite[:-1]):
            bad = [
                example for micro, good in zip(micro_batches, finite[:-1], strict=True) if not good for example in micro
            ]
            worst = next(number for number, good in zip(numbers, finite, strict=True) if not good)
            raise RunError(f"{self._place()}: the loss is {worst}, stopped before the optimiser step; {_ids(bad)}")
        if not finite[-1]:
            everything = _ids([example for micro in micro_batches for example in micro])
            bad_norm = f"the gradient norm is {numbers[-1]}"
            raise RunError(f"{self._place()}: {bad_norm}, stopped before the optimiser step; {everything}")
        return sum(numbers[:-1]), numbers[-1]

    def _run(self, metrics: MetricsLog, interrupt: Interrupt) -> None:
        """Every step that is left, with checkpoints on the way and at the end."""
        trackers = tracking.trackers(self._log, self._folder, run=self.stage.name, after=self.done)
        examples = self._batches(self.done)
        try:
            with console().progress(self.stage.name, self.steps, done=self.done) as bar:
                while self.done < self.steps:
                    began = time.perf_counter()
                    current = next(examples, None)
                    if current is None:
                        raise RunError(f"{self._place()}: the data ended, {self.steps} steps were wanted")
                    report = self.step(current, wait=time.perf_counter() - began)
                    metrics.write(report)
                    bar.advance(note=f"loss {report.loss:.3f}")
                    if self.done % self.stage.log_every == 0 or self.done == self.steps:
                        for tracker in trackers:
                            tracker.write(report)
                    if interrupt or self._save_is_due():
                        metrics.sync()
                        saved = self._save()
                        if interrupt.signal is not None:
                            self._stop(interrupt.signal, saved)
        finally:
            for tracker in trackers:
                tracker.close()
            if (close := getattr(examples, "close", None)) is not None:  # a generator may hold workers
                close()

    def _save_is_due(self) -> bool:
        every = self.stage.save_every
        return self.done == self.steps or (every is not None and self.done % every == 0)

    def _save(self) -> Path:
        moments = optimizer_state(self.optimizer, self.trained.parameters(self.parts))
        return self._checkpoints.save(self.done, self.trained.tensors(self.parts), moments, self._identity())

    def _stop(self, number: signal.Signals, saved: Path) -> NoReturn:
        text = f"{self._place()}: stopped by {number.name}; saved in {saved}, run again to go on"
        raise KeyboardInterrupt(text) if number is signal.SIGINT else StoppedError(text)

    def _resume(self) -> int:
        """Load the newest whole checkpoint; the step it stands for, or 0."""
        checkpoint = self._checkpoints.latest()
        if checkpoint is None:
            return 0
        old, new = dict(checkpoint.run), self._identity()
        same_stage = old.pop("digest") == new.pop("digest")
        if not same_stage or any(old[name] != new[name] for name in ("steps", "seed", "key")):
            found = "; ".join(differences(old, new)) or "stage: another digest of equal fields (another version?)"
            raise RunError(f"{checkpoint.folder}: this checkpoint is of another run: {found}")
        parameters = self.trained.parameters(self.parts)
        load_trained(self.parts, checkpoint.weights(), trained=self.trained)
        load_optimizer(self.optimizer, parameters, checkpoint.optimizer())
        self.done = checkpoint.step
        console().log(f"stage {self.stage.name}: going on after step {self.done} of {self.steps}")
        return self.done

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must share with this run, as plain data whose differences can be named."""
        stage = {name: value for name, value in self.stage.to_dict().items() if name not in Stage.unhashed}
        return {"digest": self.stage.digest(), "stage": stage, "steps": self.steps, "seed": self.seed, "key": self._key}

    def _report(self, resumed: int) -> TrainReport:
        reports = read_metrics(self._folder / FILE)
        last = [report.loss for report in reports[-max(1, len(reports) // 10) :]]
        return TrainReport(
            steps=self.done,
            resumed=resumed,
            loss=sum(last) / len(last) if last else None,
            tokens=sum(report.tokens for report in reports),
            supervised=sum(report.supervised for report in reports),
            seconds=sum(report.seconds for report in reports),
            wait=sum(report.wait for report in reports),
            metrics=self._folder / FILE,
        )

    def _warn_of_batch_norm(self) -> None:
        if self.stage.micro_batch in (None, self.stage.batch):
            return
        for name, part in self.parts.items():
            if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in part.modules()):
                console().warn(
                    f"{name} trains batch-norm layers: their statistics depend on micro_batch={self.stage.micro_batch}"
                )

    def _place(self) -> str:
        return f"stage {self.stage.name!r}, step {self.done + 1} of {self.steps}"


def global_count(count: int) -> int:
    """Sum of ``count`` over all ranks that share an optimiser batch; there is one."""
    return count


def step_seed(seed: int, step: int) -> int:
    """The random generator's seed for one step: a function of both numbers and nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}".encode()).digest()[:8], "big") >> 1


def _ids(examples: Sequence[Example], most: int = 16) -> str:
    names = ", ".join(repr(example.id) for example in examples[:most])
    more = f" and {len(examples) - most} more" if len(examples) > most else ""
    return f"samples {names}{more}"
