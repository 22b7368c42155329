"""Trainer: one stage of one model on any number of ranks, stoppable at any moment and continued exactly."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, RunError
from ommatidia.core.types import Batch, Example
from ommatidia.train import ema
from ommatidia.train.agreement import Agreed, Blank, MicroBatch, agree, ids
from ommatidia.train.batch_norm import refusing_single_values, warn_of_batch_norm
from ommatidia.train.checkpoint import Checkpoints
from ommatidia.train.finite import refuse_non_finite
from ommatidia.train.freeze import announce, evaluating, freeze, select, trained_state
from ommatidia.train.interrupt import Interrupt, StoppedError, watch
from ommatidia.train.metrics import FILE, StepReport, recent_loss
from ommatidia.train.optim import clip_gradients, optimizer, optimizer_state, part_norms, rate_factor, set_rate
from ommatidia.train.packing import packs, split_by_length
from ommatidia.train.parallel import Trainable, distribute
from ommatidia.train.pieces import whole
from ommatidia.train.prepare import check_packing, prepare
from ommatidia.train.ranks import Ranks, raise_on_all, step_seed
from ommatidia.train.records import NoRecords, Records
from ommatidia.train.report import TrainReport
from ommatidia.train.restore import refuse_another, restore
from ommatidia.train.saver import Saver
from ommatidia.train.speed import Meter
from ommatidia.train.stage import Stage
from ommatidia.train.tracking import Tracking

Batches = Callable[[int], Iterator[list[Example]]]
"""From a start step: this rank's examples of that optimiser step and of every later one."""
HeldOut = Callable[[], Iterator[list[Example]]]
"""This rank's held-out examples, in as many lists on every rank."""
Collate = Callable[[Sequence[Example]], Batch]


class Trainer:
    """Trains what ``stage.train`` names in ``model`` and freezes the rest.

    Args:
        batches: gives lists that hold ``stage.batch`` examples over all ranks, as a function of the step alone.
        collate: pads examples into one batch.
        steps: optimiser steps, ``stage.total_steps(size)``.
        folder: where metrics and checkpoints lie; a later trainer with the same folder goes on from there.
        seed: with the step and the rank, fixes every random draw of the model (dropout).
        key: what else fixes the result (start weights, data); a checkpoint made under another key is refused.
        tracking: where curves of the metrics are kept; by default in the folder, those of ``stage.engine.log``.
        ranks: the processes that train together; by default this one alone.
        blank: what a rank runs that has no sample, or no image, where others have one.
        held_out: the examples of ``stage.validation``.
        flops: operations of the model in one step over all ranks, by arithmetic; None: its utilisation is not told.

    Raises ConfigError when a pattern matches nothing, a trained parameter is not held in float32, or the batch has
    fewer samples than there are ranks; RunError when the ranks were given different stages.
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
        tracking: Tracking | None = None,
        ranks: Ranks | None = None,
        blank: Blank | None = None,
        held_out: HeldOut | None = None,
        flops: float | None = None,
    ) -> None:
        self.model, self.stage, self.steps, self.seed, self.done = model, stage, steps, seed, 0
        self.ranks = ranks or Ranks()
        self.device = self.ranks.device(device)
        self.micro_batch = stage.micro_batch or stage.batch
        """Samples in one forward pass of a rank; halved when memory does not suffice, as the budget of packs is."""
        self.packing = stage.engine.packing
        self._batches, self._collate, self._blank, self._held_out = batches, collate, blank, held_out
        self._folder, self._key = Path(folder), key
        self._tracking = tracking or Tracking(self._folder / "tracking", stage.engine.log, stage.name)
        self._interrupt = Interrupt()
        self._check_stage()
        self._prepare()
        self._meter = Meter(self.device, stage.precision, flops=flops, world=self.ranks.world)
        engine, place = stage.engine, self._folder / "checkpoints"
        self._checkpoints = Checkpoints(place, keep=engine.keep_last, best=engine.keep_best)
        self._saver = Saver(self._checkpoints, self.ranks, background=engine.async_save)

    def _prepare(self) -> None:
        """Make the model ready to train, in the one order that works: what changes modules comes before the shards,
        and the optimiser sees what the shards have made of the parameters."""
        self.parts = self.model.parts()
        check_packing(self.parts, self.stage)
        self.trained = select(self.parts, self.stage.train)
        freeze(self.parts, self.trained)
        prepare(self.parts, self.trained, self.stage, device=self.device)
        self.parallel = distribute(self.model, self.trained, self.stage, self.ranks, self.device)
        self.optimizer = optimizer(self.parts, self.trained, self.stage)
        self.average = ema.Average.of(self.trained.parameters(self.parts), self.stage.ema)

    def fit(self) -> TrainReport:
        """Train to the last step, going on from the newest whole checkpoint in the folder.

        SIGINT and SIGTERM, on any rank, finish the step, save, and end with KeyboardInterrupt and StoppedError that say
        where.

        Raises RunError for a batch without supervised tokens, a non-finite loss (before the optimiser step), data that
        ends early, a checkpoint of another run, a folder that cannot be written, or a rank that is lost.
        """
        announce(f"stage {self.stage.name}: {self.steps} steps of {self.stage.batch}", self.parts, self.trained)
        if self.ranks.world > 1 or self.stage.micro_batch not in (None, self.stage.batch):
            warn_of_batch_norm(self.parts, micro_batch=self.stage.micro_batch, world=self.ranks.world)
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),
            watch() as self._interrupt,
            refusing_single_values(self.parts),
            self.ranks.working(self.stage.engine.timeout),
        ):
            resumed = self._resume()
            with self._records(resumed) as records, self._saver:
                if self.done < self.steps:
                    self._run(records)
        self.optimizer.zero_grad(set_to_none=True)
        return TrainReport.read(self._folder / FILE, steps=self.done, resumed=resumed)

    def step(self, examples: Sequence[Example], *, wait: float = 0.0) -> StepReport:
        """One optimiser step on this rank's share of ``stage.batch`` examples, waited for ``wait`` seconds."""
        began = time.perf_counter() - wait
        agreed, sums = self._accumulate(examples)
        norms = part_norms(self.trained.parameters(self.parts))
        norm = clip_gradients(self.optimizer, self.stage.clip)
        loss_sum, norm_value, by_part = self._check(agreed, sums, norm, norms)

        factor = rate_factor(self.done, total=self.steps, stage=self.stage)
        set_rate(self.optimizer, factor)
        # Copies of one weight must be rounded alike, whichever ranks hold them and whatever they drew before.
        torch.manual_seed(step_seed(self.seed, -1 - self.done))
        self.optimizer.step()
        self.average.update()
        self.done += 1
        seconds = time.perf_counter() - began
        return StepReport(
            step=self.done,
            loss=loss_sum / agreed.supervised,
            rates={pattern: peak * factor for pattern, peak in self.stage.train.items()},
            norm=norm_value,
            tokens=agreed.tokens,
            supervised=agreed.supervised,
            seconds=seconds,
            wait=wait,
            norms=by_part,
            **self._meter.metrics(seconds),
        )

    def result(self) -> dict[str, Tensor]:
        """What the stage changed, on the CPU, as "<part>:<name>"; ``freeze.load_trained`` puts it back.

        With ``stage.ema`` it holds the averages of the weights. All ranks must call it; it is empty on all but rank 0.
        """
        with self.average.in_place():
            return trained_state(self.parts, self.trained, keep=self.ranks.leads)

    def _split(self, examples: Sequence[Example]) -> list[list[Example]]:
        """What this rank computes together."""
        return split_by_length(examples, self.micro_batch) if self.packing is None else packs(examples, self.packing)

    def _accumulate(self, examples: Sequence[Example]) -> tuple[Agreed, list[Tensor]]:
        """The gradient of the batch's mean loss, and each micro-batch's loss sum; smaller ones if memory runs out."""
        while True:
            agreed = self._agree(examples)
            # Dropout depends on the step, and on whose samples these are, never on what ran before.
            torch.manual_seed(step_seed(self.seed, self.done, self.ranks.rank))
            self.optimizer.zero_grad(set_to_none=True)
            if (sums := self._passes(agreed)) is not None:
                return agreed, sums
            self._halve([micro_batch.examples for micro_batch in agreed.micro_batches])

    def _passes(self, agreed: Agreed) -> list[Tensor] | None:
        """Forward and backward over every micro-batch; None, on all ranks, when one of them ran out of memory."""
        sums, last, short = [], None, False
        try:
            with self.parallel.apart():
                for micro_batch in agreed.micro_batches[:-1]:
                    sums.append(self._backward(self._forward(micro_batch), agreed))
            last = self._forward(agreed.micro_batches[-1])
        except torch.OutOfMemoryError as error:
            if not self.parallel.recovers:
                raise self._out_of_memory("a sharded pass cannot be taken back") from error
            short = True
        if self.parallel.recovers and any(self.ranks.gather(short)):
            return None
        assert last is not None
        try:
            sums.append(self._backward(last, agreed))
            self.parallel.complete()
            return sums
        except torch.OutOfMemoryError as error:
            if self.ranks.world > 1:
                raise self._out_of_memory("the other ranks were already summing gradients") from error
            return None

    def _forward(self, micro_batch: MicroBatch) -> Tensor:
        """The micro-batch's token-loss sum."""
        self.ranks.mark("in a forward pass")
        batch = self._collate(micro_batch.rows).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.stage.precision != "fp32"):
            loss_sum, count = self.parallel.loss(batch)
        wanted = sum(map(self.model.targets, micro_batch.rows))
        if count != wanted:
            raise RunError(
                f"{self._place()}: the model scored {count} positions, {wanted} are labelled; {ids(micro_batch.rows)}"
            )
        if micro_batch.blank is not None and self.model.targets(micro_batch.blank):  # a blank view is a target too
            return 0.0 * loss_sum
        return loss_sum

    def _backward(self, loss_sum: Tensor, agreed: Agreed) -> Tensor:
        """The micro-batch's share of the batch's mean loss goes to the gradients."""
        self.ranks.mark("in a backward pass")
        if loss_sum.requires_grad:  # a text-only micro-batch reaches nothing that trains when only visual parts do
            (loss_sum * self.parallel.scale / agreed.supervised).backward()
        return loss_sum.detach()

    def _halve(self, split: Sequence[Sequence[Example]]) -> None:
        """Go on in smaller micro-batches. Raises RunError when they cannot be smaller."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.parallel.restart()
        mine = max(map(len, split)), max(sum(example.ids.numel() for example in examples) for examples in split)
        samples, tokens = (max(values) for values in zip(*self.ranks.gather(mine), strict=True))
        if samples < 2:
            raise raise_on_all(self._out_of_memory("with one sample at a time"))
        if self.packing is None:
            self.micro_batch = samples // 2
            instead = f"{samples} samples in a forward pass; going on with {self.micro_batch}"
        else:
            self.packing = self.packing.model_copy(update={"tokens": tokens // 2})
            instead = f"{tokens} tokens in a pack; going on with {self.packing.tokens}"
        console().warn(
            f"{self._place()}: out of memory with {instead}, "
            f"which leaves the batch of {self.stage.batch} and the result as they are"
        )

    def _out_of_memory(self, when: str) -> RunError:
        return RunError(
            f"{self._place()}: out of memory ({when}); set a smaller stage.micro_batch (now {self.micro_batch}), "
            "engine.recompute for the largest part, or engine.parallel fsdp over more ranks"
        )

    def _agree(self, examples: Sequence[Example]) -> Agreed:
        """The step as all ranks see it. Raises RunError for another number of samples, or when none is supervised."""
        agreed = agree(self._split(examples), self.model.targets, self.ranks, self._blank)
        if agreed.samples != self.stage.batch:
            got = f"got {agreed.samples} samples, the stage's batch is {self.stage.batch}"
            raise raise_on_all(RunError(f"{self._place()}: {got}"))
        if agreed.supervised == 0:
            named = "; ".join(self.ranks.gather(ids(examples)))
            which = "no token of this batch"
            if self.done == 0:
                which = "this data teaches nothing: no token of the first batch"
            raise raise_on_all(RunError(f"{self._place()}: {which} is supervised; {named}"))
        return agreed

    def _check(
        self, agreed: Agreed, sums: Sequence[Tensor], norm: Tensor, norms: Mapping[str, Tensor]
    ) -> tuple[float, float, dict[str, float]]:
        """The loss sum and the gradient norms of all ranks as numbers: the one wait for the device.

        Raises RunError, on all ranks, if one of them is not finite. The ranks also learn here of one's signal.
        """
        stacked = torch.stack(
            [whole(value).float().to(self.device) for value in (*sums, norm, *norms.values())]
        ).tolist()
        numbers, by_part = stacked[: len(sums) + 1], dict(zip(norms, stacked[len(sums) + 1 :], strict=True))
        told = self.ranks.gather((numbers, self._interrupt.signal))
        refuse_non_finite(agreed, [numbers for numbers, _ in told], self.ranks, self._place())
        self._interrupt.signal = next((number for _, number in told if number is not None), None)
        return sum(sum(numbers[:-1]) for numbers, _ in told), numbers[-1], by_part

    def _run(self, records: Records) -> None:
        """Every step that is left, with checkpoints and validation on the way and at the end."""
        examples = self._batches(self.done)
        try:
            with console().progress(self.stage.name, self.steps, done=self.done) as bar:
                while self.done < self.steps:
                    report = self._next(examples)
                    records.write(report)
                    bar.advance(note=f"loss {report.loss:.3f}")
                    best = self.stage.engine.keep_best and report.validation is not None
                    if self._interrupt or best or self._is_due(self.stage.save_every):
                        records.sync()
                        self._save(report)
                    if self._interrupt.signal is not None:
                        self._saver.finish()
                        self._stop(self._interrupt.signal)
        finally:
            if (close := getattr(examples, "close", None)) is not None:  # a generator may hold workers
                close()

    def _next(self, examples: Iterator[list[Example]]) -> StepReport:
        """The next step, from waiting for its examples to the held-out loss behind it where that is due."""
        self.ranks.mark("waiting for data")
        began = time.perf_counter()
        current = next(examples, None)
        if current is None:
            raise raise_on_all(RunError(f"{self._place()}: the data ended, {self.steps} steps were wanted"))
        report = self.step(current, wait=time.perf_counter() - began)
        validation = self.stage.validation
        if validation is not None and self._is_due(validation.every):
            report = replace(report, validation=self._validate())
        return report

    def _is_due(self, every: int | None) -> bool:
        """Whether what happens every so many steps, and after the last, happens now."""
        return self.done == self.steps or (every is not None and self.done % every == 0)

    @torch.no_grad()
    def _validate(self) -> float:
        """The held-out loss, in nats per supervised token. Raises RunError when no held-out token is supervised."""
        assert self._held_out is not None
        total, supervised = 0.0, 0
        with evaluating(self.parts), self.average.in_place():
            for examples in self._held_out():
                agreed = agree(self._split(examples), self.model.targets, self.ranks, self._blank)
                total += sum(float(self._forward(micro_batch)) for micro_batch in agreed.micro_batches)
                supervised += agreed.supervised
            self.parallel.settle()
        if not supervised:
            raise raise_on_all(RunError(f"stage {self.stage.name!r}: no token of its validation data is supervised"))
        return sum(self.ranks.gather(total)) / supervised

    def _save(self, report: StepReport) -> None:
        """Keep the state after the step of ``report``."""
        state = optimizer_state(self.optimizer, self.trained.parameters(self.parts)) | self.average.state()
        groups = {"trained": self.trained.tensors(self.parts), "optimizer": state}
        loss = (
            report.validation
            if self.stage.validation is not None
            else recent_loss(self._folder / FILE, self.stage.save_every)
        )
        self._saver.save(self.done, groups, self._identity(), loss=loss)

    def _stop(self, number: signal.Signals) -> NoReturn:
        saved = self._checkpoints.place(self.done)
        text = f"{self._place()}: stopped by {number.name}; saved in {saved}, run again to go on"
        raise raise_on_all(KeyboardInterrupt(text) if number is signal.SIGINT else StoppedError(text))

    def _resume(self) -> int:
        """Load the newest whole checkpoint; the step it stands for, or 0."""
        found = self._checkpoints.latest() if self.ranks.leads else None
        folder = self.ranks.broadcast(None if found is None else str(found.folder))
        if folder is None:
            return 0
        checkpoint = self._checkpoints.open(Path(folder))
        refuse_another(checkpoint, self._identity())
        restore(checkpoint, self.parts, self.trained, self.optimizer, self.average)
        self.done = checkpoint.step
        console().log(f"stage {self.stage.name}: going on after step {self.done} of {self.steps}")
        return self.done

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must share with this run, as plain data whose differences can be named."""
        stage = {name: value for name, value in self.stage.to_dict().items() if name not in Stage.unhashed}
        return {"digest": self.stage.digest(), "stage": stage, "steps": self.steps, "seed": self.seed, "key": self._key}

    def _records(self, after: int) -> Records:
        if not self.ranks.leads:
            return NoRecords()
        every = self.stage.log_every
        return Records(self._folder, after=after, every=every, last=self.steps, tracking=self._tracking)

    def _check_stage(self) -> None:
        """Raises ConfigError or RunError for what cannot work, before a weight is touched."""
        stage, world = self.stage, self.ranks.world
        if stage.batch < world:
            raise ConfigError(
                f"stage {stage.name!r}: a batch of {stage.batch} cannot be divided over {world} ranks; "
                "expected at least one sample for each"
            )
        if stage.validation is not None and self._held_out is None:
            raise ConfigError(f"stage {stage.name!r}: it has validation data, but the trainer was given no held_out")
        run = {name: value for name, value in self._identity().items() if name != "digest"}
        self.ranks.require_same_on_all_ranks(f"stage {stage.name!r}", {**run, "engine": stage.engine.to_dict()})

    def _place(self) -> str:
        return f"stage {self.stage.name!r}, step {self.done + 1} of {self.steps}"
