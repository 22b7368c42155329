"""A toy that sees, and the program that several ranks run: ``rank_toy.py FOLDER``.

Images stand at even positions alone, so that of two ranks the second never has one; in step ``BLIND`` there is none.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import train_toy
from safetensors.torch import save_file
from torch import Tensor, nn
from train_toy import VOCABULARY, WIDTH, collate, targets

from ommatidia.core.console import Console
from ommatidia.core.errors import OmmatidiaError
from ommatidia.core.types import IGNORE_LABEL, Batch, Example, View
from ommatidia.train.metrics import read_metrics
from ommatidia.train.ranks import Ranks, process_group
from ommatidia.train.stage import Stage
from ommatidia.train.trainer import Trainer

BATCH, STEPS, BLIND = 8, 6, 4


class Block(nn.Module):
    """A residual layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3), nn.GELU(), nn.Linear(3, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Eye(nn.Module):
    """Pixels K_WIDTH to features; counts how often it looked."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = 0
        self.trunk = nn.Sequential(Block(), Block())
        self.neck = nn.Linear(WIDTH, WIDTH)

    def forward(self, pixels_KD: Tensor) -> Tensor:
        self.looked += 1
        return self.neck(self.trunk(pixels_KD))


class Reader(nn.Module):
    """Embedding, blocks and head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)


class Seeing(nn.Module):
    """What is seen is added to every word of its row. ``most``: rows after which memory is said to run out."""

    def __init__(self, most: int = 99) -> None:
        super().__init__()
        self.most = most
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.eye, self.projector, self.language = Eye(), nn.Linear(WIDTH, WIDTH), Reader()

    def parts(self) -> dict[str, nn.Module]:
        return {"encoders.eye": self.eye, "projector": self.projector, "language": self.language}

    targets = staticmethod(targets)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        if len(batch.ids_BT) > self.most:
            raise torch.OutOfMemoryError("as if")
        x_BTE = self.language.embedding(batch.ids_BT)
        if batch.views is not None:
            seen_KE = self.projector(self.eye(batch.pixels["eye"]))
            x_BTE = x_BTE + torch.zeros_like(x_BTE[:, 0]).index_add(0, batch.views.rows_K, seen_KE).unsqueeze(1)
        for block in self.language.blocks:
            x_BTE = block(x_BTE)
        targets_BT = batch.labels_BT[:, 1:]
        chosen_BT = targets_BT != IGNORE_LABEL
        logits_SV = self.language.head(x_BTE[:, :-1][chosen_BT])
        return nn.functional.cross_entropy(logits_SV, targets_BT[chosen_BT], reduction="sum"), int(chosen_BT.sum())


def example(position: int) -> Example:
    """Sample number ``position`` of the common toy; every other one has an image, but none in the step ``BLIND``."""
    words = train_toy.example(position)
    if position % 2 or position // BATCH == BLIND:
        return words
    pixels = torch.sin(torch.arange(WIDTH, dtype=torch.float32) + position).unsqueeze(0)
    return replace(words, pixels={"eye": pixels}, views=(View(0, (1, 1)),))


def blank(picture: bool) -> Example:
    found = example(0 if picture else 1)
    return replace(found, id="blank", labels=torch.full_like(found.labels, IGNORE_LABEL))


def batches(start: int, ranks: Ranks, *, steps: int = STEPS) -> Iterator[list[Example]]:
    for step in range(start, steps):
        yield [example(step * BATCH + i) for i in ranks.share(BATCH)]


EVERYTHING = {"*": 1e-2}
VISUAL = {"encoders.*": 1e-2, "projector": 1e-2}


def trainer(folder: Path, ranks: Ranks, *, steps: int = STEPS, model: Seeing | None = None, **fields: Any) -> Trainer:
    """``steps``: after how many the data ends, as if the run had crashed there."""
    engine = {"timeout": 20.0, **fields.pop("engine", {})}
    data = {"sources": {"words": {"source": "train_toy_words"}}}
    plain = {"name": "toy", "train": EVERYTHING, "data": data, "batch": BATCH, "steps": STEPS, "weight_decay": 0.1}
    value = Stage.parse({**plain, "micro_batch": 2, "save_every": 3, "clip": 0.5, **fields, "engine": engine})
    return Trainer(
        model or Seeing(),
        value,
        lambda start: batches(start, ranks, steps=steps),
        collate,
        steps=STEPS,
        folder=folder,
        seed=3,
        ranks=ranks,
        blank=blank,
        held_out=lambda: iter([[example(100 + i) for i in ranks.share(5)], [example(110 + i) for i in ranks.share(1)]]),
    )


VALIDATION = {"data": {"sources": {"words": {"source": "train_toy_words"}}}, "samples": 6, "every": 4}


def losses(folder: Path) -> list[list[Any]]:
    return [[r.loss, r.norm, r.tokens, r.supervised, r.validation] for r in read_metrics(folder / "metrics.jsonl")]


def finish(run: Trainer, ranks: Ranks, folder: Path) -> None:
    """Train to the end and leave the result in the folder."""
    run.fit()
    result = run.result()
    if ranks.leads:
        save_file(result, folder / "result.safetensors")


MODES = {"ddp": {}, "fsdp": {"parallel": "fsdp"}, "hsdp": {"parallel": "hsdp", "replicas": 2}}


def said(run: Trainer) -> str:
    """The error that a run ends with."""
    try:
        run.fit()
    except OmmatidiaError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def agree_on_everything(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """What is compared with one process, in one launch."""
    found: dict[str, Any] = {}
    for mode, engine in MODES.items():
        run = trainer(folder / mode, ranks, engine=engine, validation=VALIDATION)
        finish(run, ranks, folder / mode)
        found[f"{mode} looked"] = run.model.eye.looked
        finish(trainer(folder / f"{mode} visual", ranks, engine=engine, train=VISUAL), ranks, folder / f"{mode} visual")
        stopped = folder / f"{mode} stopped"
        found[f"{mode} stopped"] = said(trainer(stopped, ranks, steps=5, engine=engine))
        if mode == "fsdp":  # written in shards, read as copies
            finish(trainer(stopped, ranks, engine={}), ranks, stopped)
        if mode == "hsdp":  # written in one group of shards, read in shards over all ranks
            finish(trainer(stopped, ranks, engine=MODES["fsdp"]), ranks, stopped)
    broken = trainer(folder / "nan", ranks)
    if ranks.rank == 1:
        plain = broken.model.loss
        broken.model.loss = lambda batch: (plain(batch)[0] * float("nan"), plain(batch)[1])
    found["nan"] = said(broken)
    stop = trainer(folder / "signal", ranks)
    if ranks.rank == 1:
        plain_step = stop.step

        def step(*args: Any, **options: Any) -> Any:
            if stop.done == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain_step(*args, **options)

        stop.step = step
    found["signal"] = said(stop)
    tight = trainer(folder / "tight", ranks, model=Seeing(2 if ranks.rank else 99), micro_batch=None)
    finish(tight, ranks, folder / "tight")
    found["tight"] = tight.micro_batch
    try:
        trainer(folder / "other", ranks, clip=1.0 + ranks.rank)
        found["other"] = "nothing"
    except OmmatidiaError as error:
        found["other"] = f"{type(error).__name__}: {error}"
    return found


def kill_a_rank(folder: Path, ranks: Ranks) -> None:
    """Rank 1 is killed in its third step."""
    run = trainer(folder, ranks)
    plain = run.step

    def step(*args: Any, **options: Any) -> Any:
        if run.done == 2 and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*args, **options)

    run.step = step
    run.fit()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    try:
        with process_group() as ranks:
            found = agree_on_everything(folder, ranks)
            (folder / f"rank{ranks.rank}.json").write_text(json.dumps(found))
            kill_a_rank(folder / "killed", ranks)
    except OmmatidiaError as error:
        Console().fail(error)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
