"""A toy model with real parts, its data as a pure function of the step, and a process that trains it, to be killed.

Run as a program: ``python train_toy.py FOLDER STEPS PAUSE`` trains into FOLDER and saves FOLDER/result.safetensors.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import IGNORE_LABEL, Batch, Example, Views
from ommatidia.train.stage import Stage
from ommatidia.train.trainer import Trainer

VOCABULARY, WIDTH = 11, 8


class ToyWords(SourceConfig):
    """Named in stages only; the tests feed the trainer themselves."""

    kind: Literal["train_toy_words"] = "train_toy_words"

    def open(self) -> Source:
        raise NotImplementedError


def targets(example: Example) -> int:
    """Supervised tokens: the first one is predicted from nothing, and so is none."""
    return int((example.labels[1:] != IGNORE_LABEL).sum())


class Encoder(nn.Module):
    """A trunk with batch norm and dropout, and a neck: everything that freezing must hold still."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.3))
        self.neck = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH))

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.neck(self.trunk(x_ND))


class Language(nn.Module):
    """Embedding and a linear head."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


class Toy(nn.Module):
    """Embedded tokens through an encoder and a projector, then next-token logits."""

    def __init__(self, *, tied: bool = False, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = Encoder()
            self.projector = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(dropout))
            self.language = Language(tied=tied)
        self.injection = nn.Identity()

    def parts(self) -> dict[str, nn.Module]:
        return {
            "encoders.toy": self.encoder,
            "projector": self.projector,
            "injection": self.injection,
            "language": self.language,
        }

    targets = staticmethod(targets)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        x_BTE = self.language.embedding(batch.ids_BT)
        x_BTE = x_BTE + self.projector(self.encoder(x_BTE.flatten(0, 1))).view_as(x_BTE)
        targets_BT = batch.labels_BT[:, 1:]
        logits_BTV = self.language.head(x_BTE[:, :-1])
        total = nn.functional.cross_entropy(
            logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORE_LABEL, reduction="sum"
        )
        return total, int((targets_BT != IGNORE_LABEL).sum())


def example(position: int, *, supervised: bool = True) -> Example:
    """Sample number ``position``: a counting sequence of its own length whose first two positions are a prompt."""
    length = 4 + position % 5
    ids = (torch.arange(length) * (1 + position % 3) + position) % VOCABULARY
    labels = ids.clone()
    labels[: 2 if supervised else length] = IGNORE_LABEL
    return Example(f"toy/{position}", ids, labels)


def collate(examples: Sequence[Example]) -> Batch:
    """Rows padded on the right, and what the encoder named ``eye`` sees of those that have views."""
    longest = max(e.ids.numel() for e in examples)
    ids_BT = torch.zeros(len(examples), longest, dtype=torch.long)
    labels_BT = torch.full_like(ids_BT, IGNORE_LABEL)
    for row, e in enumerate(examples):
        ids_BT[row, : e.ids.numel()], labels_BT[row, : e.ids.numel()] = e.ids, e.labels
    mask_BT = torch.arange(longest) < torch.tensor([[e.ids.numel()] for e in examples])
    seen = [e.pixels["eye"] for e in examples if e.views]
    pixels = {"eye": torch.cat(seen)} if seen else {}
    views = Views.of([e.views for e in examples]) if seen else None
    return Batch(tuple(e.id for e in examples), ids_BT, labels_BT, mask_BT, pixels, {}, views)


def batches(start: int, *, batch: int = 8, pause: float = 0.0) -> Iterator[list[Example]]:
    step = start
    while True:
        time.sleep(pause)
        yield [example(position) for position in range(step * batch, (step + 1) * batch)]
        step += 1


def stage(**fields: Any) -> Stage:
    """A stage that trains everything but the encoder, with ``fields`` in place of the defaults."""
    defaults = {
        "name": "toy",
        "train": {"projector": 1e-2, "language": 3e-3},
        "data": {"sources": {"words": {"source": "train_toy_words"}}},
        "batch": 8,
        "steps": 12,
        "weight_decay": 0.1,
        "warmup": 0.25,
    }
    return Stage.parse({**defaults, **fields})


def trainer(model: Toy, folder: Path, value: Stage | None = None, **more: Any) -> Trainer:
    value = value or stage()
    given = {"steps": value.total_steps(100), "folder": folder, "seed": 3, **more}
    return Trainer(model, value, given.pop("batches", batches), collate, **given)


def main(folder: Path, steps: int, pause: float) -> None:
    torch.set_num_threads(1)
    value = stage(train={"*": 1e-2}, steps=steps, save_every=3)
    run = trainer(Toy(dropout=0.2), folder, value, batches=lambda start: batches(start, pause=pause))
    run.fit()
    save_file(run.result(), folder / "result.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
