"""Optimiser steps of Eagle-X5-7B on a CUDA device: ours against an Eagle-style step, and against the matmul ceiling.

python -m benchmarks.gpu.eagle_step [--stages align tune] [--samples 16] [--micro 8] [--rounds 4] [--small]

Full size, random weights, made-up dialogues of LLaVA-like lengths about one image of 1024 px each. ``align`` trains
the projector, ``tune`` projector and language model; the encoders are frozen in both. *Ours* is ``Trainer.step``.
*Eagle-style* is what the published code does with the same parameters, optimiser and images: encoders one after
another through the straightforward modules (Pix2Struct's patches on the CPU), rows padded to the longest, every block
of the decoder computed again on the way back, logits at every position in float32. Sides take turns; a step is timed
with events, its data ready in host memory. Useful operations are the planner's (lab/price/cost.py): no padding, no
recomputation. ``--small`` is a few thousand weights on the CPU, to try the script without a device.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.eagle_encoders import NAMES, Size, straightforward
from benchmarks.gpu.timing import ceiling, machine, milliseconds
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Batch, Example, View
from ommatidia.lab.price.cost import SampleTokens, training_price
from ommatidia.lab.recipe import Recipe, read
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.language.scratch import ScratchLanguage
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.models.vision import CATALOG
from ommatidia.train.stage import Stage
from ommatidia.train.trainer import Trainer

TRAINS = {"align": {"projector": 1e-3}, "tune": {"projector": 2e-5, "language": 2e-5}}
SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 2048,
}  # fmt: skip


def model_config(folder: Path, *, small: bool) -> MLLMConfig:
    """The study's own value; its tokenizer is not needed, any will do for the marks of padding."""
    ScratchLanguage().tokenizer().inner.save_pretrained(folder)
    model = read("ommatidia.recipes.eagle:x5_7b", Recipe).model
    language = {**model.language.to_dict(), "path": str(folder), "download": False, "random": True}
    data = model.to_dict() | {"language": language, "chat": "compact"}
    if small:
        language["config"] = {**language["config"], **SMALL}
        data["encoders"] = {name: {**CATALOG[entry].twin(), "fit": "pad_first"} for name, entry in NAMES.items()}
        data["fusion"] = {**data["fusion"], "grid": [2, 2]}
    return MLLMConfig.parse(data)


def stage(name: str, samples: int, micro: int, **changes: Any) -> Stage:
    source = {"kind": "drawn_attributes", "split": "train", "pictures": 1, "per_picture": 1, "size": 32}
    data = {"sources": {"none": {"source": source}}}  # the steps are fed by hand
    common = {"name": name, "train": TRAINS[name], "data": data, "steps": 1000, "batch": samples, "micro_batch": micro}
    return Stage.parse({**common, "precision": "bf16", "frozen_precision": "bf16", "clip": None, **changes})


def dialogues(config: MLLMConfig, count: int, *, small: bool) -> list[Example]:
    """Lengths as in LLaVA's second stage: about 256 words beside the image, half of them answers; log-normal."""
    generator = torch.Generator().manual_seed(0)
    median = 12 if small else 210
    lengths = (torch.randn(count, generator=generator) * 0.65).exp() * median
    vocabulary, visual = config.language.shape().vocab, config.tokens_per_view
    examples = []
    for number, length in enumerate(lengths.round().long().clamp(8, 1024).tolist()):
        words = torch.randint(3, vocabulary, (length,), generator=generator)
        ids = torch.cat([words[:4], torch.full((visual,), IMAGE_TOKEN_ID), words[4:]])
        labels = torch.full_like(ids, IGNORE_LABEL)
        labels[-(length // 2) :] = ids[-(length // 2) :]
        sizes = {encoder.preprocess().size for encoder in config.encoders.values()}
        made = {size: torch.randn(1, 3, *size, generator=generator) for size in sizes}
        pixels = {name: made[encoder.preprocess().size] for name, encoder in config.encoders.items()}
        examples.append(
            Example(f"made/{number}", ids, labels, pixels, views=(View(0, (1024, 1024)),), places=torch.arange(visual))
        )
    return examples


def useful_flops(config: MLLMConfig, value: Stage, examples: Sequence[Example]) -> float:
    """Of one optimiser step, from the planner's formula, sample by sample."""
    total, visual = 0.0, config.tokens_per_view
    for example in examples:
        tokens = SampleTokens(len(example.ids) - visual, example.supervised, 1.0, 1.0, visual, 1)
        total += training_price(config, value, frozenset(), tokens, 1).flops
    return total


class EagleStyle:
    """The published way to take the step, on the parameters of ``trainer``."""

    def __init__(self, model: MLLM, processor: Processor, *, device: str, small: bool) -> None:
        """Made before ``trainer``, which may compile the encoders: these are copies."""
        self.model, self.processor, self.device = model, processor, device
        self.trainer: Trainer | None = None
        own = ("convnext", "eva02_det") if not small else tuple(model.encoders)
        found = {n: cast(nn.Module, encoder.trunk) for n, encoder in model.encoders.items()}
        trunks = {n: copy.deepcopy(trunk).bfloat16() if n in own else trunk for n, trunk in found.items()}
        self.encoders: dict[str, Callable[[Tensor], Tensor]] = (
            dict(trunks)
            if small
            else {n: straightforward(n, trunk, Size(device, torch.bfloat16)) for n, trunk in trunks.items()}
        )

    def step(self, examples: Sequence[Example]) -> float:
        assert self.trainer is not None
        optimizer, size = self.trainer.optimizer, self.trainer.stage.micro_batch or len(examples)
        optimizer.zero_grad(set_to_none=True)
        supervised = sum(map(self.model.targets, examples))
        decoder = self.model.language.decoder
        decoder.train()
        decoder.gradient_checkpointing_enable({"use_reentrant": False})
        total = 0.0
        for first in range(0, len(examples), size):
            batch = self.processor.collate(examples[first : first + size]).to(self.device)
            with torch.autocast(self.device, dtype=torch.bfloat16):
                loss = self.loss(batch)
            (loss / supervised).backward()
            total += float(loss.detach())
        optimizer.step()
        decoder.gradient_checkpointing_disable()
        return total / supervised

    def loss(self, batch: Batch) -> Tensor:
        assert batch.views is not None
        with torch.no_grad():
            maps = {name: run(batch.pixels[name].bfloat16()) for name, run in self.encoders.items()}
            y_KHWD = self.model.fusion(maps, batch.views).y_KHWD
        v_NE = self.model.projector(y_KHWD).flatten(0, 2)
        x_BTE = self.model.language.embed(batch.ids_BT)
        x_BTE = x_BTE.masked_scatter((batch.ids_BT == IMAGE_TOKEN_ID).unsqueeze(-1), v_NE.to(x_BTE.dtype))
        logits_BTV = self.model.language.decoder(inputs_embeds=x_BTE, use_cache=False).logits.float()
        predicted, wanted = logits_BTV[:, :-1].flatten(0, 1), batch.labels_BT[:, 1:].flatten()
        return functional.cross_entropy(predicted, wanted, reduction="sum", ignore_index=IGNORE_LABEL)


def build(config: MLLMConfig, device: str) -> MLLM:
    """Random weights, drawn on the device: a 7B model on the CPU takes minutes."""
    with torch.device(device):
        return build_model(config, seed=0, pretrained=False)


def make_trainer(model: MLLM, processor: Processor, value: Stage, device: str) -> Trainer:
    def none(start: int) -> Iterator[list[Example]]:
        return iter(())

    folder = Path(tempfile.gettempdir()) / "not-written"
    collate = processor.collate if value.engine.packing is None else processor.pack
    return Trainer(model, value, none, collate, steps=1000, folder=folder, seed=0, device=device)


def timed(run: Callable[[], object], device: str) -> float:
    """Seconds of one run."""
    if device == "cuda":
        return milliseconds(run) / 1e3
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def compare(given: argparse.Namespace, config: MLLMConfig, name: str, device: str, top: float | None) -> dict[str, Any]:
    """One stage: both sides in turns on the same parameters."""
    processor, model = Processor(config), build(config, device)
    changes = json.loads(given.stage)
    value = stage(name, given.samples, given.micro, **changes)
    examples = dialogues(config, given.samples, small=given.small)
    theirs = None if given.alone else EagleStyle(model, processor, device=device, small=given.small)
    trainer = make_trainer(model, processor, value, device)
    sides: dict[str, Callable[[], Any]] = {"ours": lambda: trainer.step(examples)}
    if theirs is not None:
        theirs.trainer = trainer
        sides["eagle_style"] = lambda: theirs.step(examples)
    result: dict[str, Any] = {"micro_batch": given.micro, "changes": changes, "first_loss": {}, "peak_gib": {}}
    for side, run in sides.items():  # the first run of each warms up and makes the optimiser's state
        first = run()
        result["first_loss"][side] = round(getattr(first, "loss", first), 4)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            run()
            result["peak_gib"][side] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(given.rounds):
        for side, run in sides.items():
            taken[side].append(timed(run, device))
    flops = useful_flops(config, value, examples)
    result["useful_tflop"] = round(flops / 1e12, 1)
    result["positions"] = sum(len(example.ids) for example in examples)
    for side, times in taken.items():
        seconds = statistics.median(times)
        result[side] = {"seconds": round(seconds, 4), "samples_per_second": round(given.samples / seconds, 3)}
        if top is not None:
            result[side]["share_of_ceiling"] = round(flops / seconds / top, 3)
            result[side]["tflops"] = round(flops / seconds / 1e12, 1)
    if not given.alone:
        pairs = zip(taken["eagle_style"], taken["ours"], strict=True)
        result["speed_up"] = round(statistics.median(theirs / ours for theirs, ours in pairs), 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=sorted(TRAINS), default=["align", "tune"])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--stage", default="{}", help="JSON: fields of the stage, its engine too")
    parser.add_argument("--alone", action="store_true", help="without the Eagle-style side")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    device = "cpu" if given.small else "cuda"
    top = None if given.small else ceiling()
    result: dict[str, Any] = {} if top is None else {"machine": machine(), "ceiling_tflops": round(top / 1e12, 1)}
    result["samples"] = given.samples
    with tempfile.TemporaryDirectory() as folder:
        config = model_config(Path(folder), small=given.small)
        for name in given.stages:
            result[name] = compare(given, config, name, device, top)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
