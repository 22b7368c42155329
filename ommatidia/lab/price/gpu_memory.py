"""Bytes on each accelerator while a stage trains: what ``memory`` counts by parameter, sharded, and what a pass keeps.

A trained parameter in fp32 or bf16: 4 of weight, 4 of gradient, 8 of AdamW (2 in 8 bits; AdaFactor's rows and columns
alone), and in bf16 the 16-bit copy that a step computes with; in bf16_pure 2, 2 and 4. FSDP divides all but the copies
by the ranks of a shard, and gathers two blocks at a time. A pass keeps, for every position of a block of width d, 34 d
bytes in 16 bits (Korthikanti et al., 2022, arXiv 2205.05198, equation 2, without the scores that fused attention never
stores); selective recomputation 20 d, outputs of products alone; full 2 d, and one block whole. The width of an encoder
of P parameters is taken as that of a ViT with 43 channels a block: P = 12 d^3 / 43 (within 4 % for ViT-L, H and SO400M;
for others a rough size). Logits take 10 bytes a supervised position and word: in 16 bits, in 32, and their gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase

from ommatidia.core.grid import Cost
from ommatidia.lab.price.cost import SampleTokens, trains
from ommatidia.lab.price.memory import Held
from ommatidia.models.config import MLLMConfig
from ommatidia.train.engine import Engine, Recompute
from ommatidia.train.stage import Stage

NODE = 8
"""Accelerators of a node: one group of HSDP, unless ``replicas`` says otherwise."""
RESERVE = 0.06
"""Share of the memory that is left to kernels, communication and the allocator's gaps."""

_BLOCK_FLOPS, _ASPECT = 24, 43
_KEPT: dict[Recompute, int] = {"none": 34, "selective": 20, "full": 2}
_LOGITS = 10


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Bytes on one accelerator."""

    weights: float
    gradients: float
    optimizer: float
    copies: float
    """Of weights: in 16 bits, or gathered from shards."""
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return float(sum(getattr(self, field.name) for field in fields(self)))


def gpu_memory(
    model: MLLMConfig, stage: Stage, one: Held, tokens: SampleTokens, costs: Mapping[str, Cost], *, world: int
) -> GpuMemory:
    """Of each rank of a stage that holds the parameters ``one``; ``costs``: by part, of one pass over one sample."""
    engine = stage.engine
    shards = _shards(engine, world)
    half = stage.precision != "fp32"
    pure = stage.precision == "bf16_pure"
    trained, frozen = one.trained / shards, one.frozen / shards
    size = 2 if pure else 4
    weights = size * trained + (2 if stage.frozen_precision == "bf16" or pure else 4) * frozen
    copies = (2.0 * one.trained if half and not pure else 0.0) if shards == 1 else _gathered(model)
    samples = _samples(stage, tokens, world)
    kept = sum(_activations(model, stage, tokens, costs, part) for part in costs)
    supervised = samples * tokens.supervised
    return GpuMemory(
        weights=weights,
        gradients=size * trained,
        optimizer=(_optimizer(stage, model, size) + (4 if stage.ema is not None else 0)) * trained,
        copies=copies,
        activations=kept * samples * (1 if half else 2),
        logits=_LOGITS * model.language.shape().vocab * min(supervised, engine.chunk or math.inf),
    )


def _shards(engine: Engine, world: int) -> int:
    """Ranks that hold one copy of the model between them."""
    if engine.parallel == "ddp":
        return 1
    if engine.parallel == "fsdp":
        return world
    return max(1, world // (engine.replicas or math.ceil(world / NODE)))


def _samples(stage: Stage, tokens: SampleTokens, world: int) -> float:
    """Samples that one forward pass of a rank holds."""
    share = math.ceil(stage.batch / world)
    if stage.engine.packing is not None and tokens.length:
        return min(share, max(1.0, stage.engine.packing.tokens / tokens.length))
    return min(stage.micro_batch or share, share)


def _optimizer(stage: Stage, model: MLLMConfig, size: int) -> float:
    """Bytes of state a trained parameter."""
    if stage.optimizer == "adamw_8bit":
        return 2 + 8 / 256  # two moments, and their scales for every 256
    if stage.optimizer == "adafactor":
        return 8 / model.language.shape().width
    return 2.0 * size


def _gathered(model: MLLMConfig) -> float:
    """Two blocks of the decoder, and two of the largest encoder, in 16 bits."""
    shape = model.language.shape()
    blocks = [shape.linear_per_layer, *(_depth_share(e.trunk_cost().parameters) for e in model.encoders.values())]
    return 2 * 2 * max(blocks)


def _width(parameters: float) -> float:
    return max(1.0, (parameters * _ASPECT / 12) ** (1 / 3))


def _depth_share(parameters: float) -> float:
    """Parameters of one block."""
    return parameters / max(1.0, _width(parameters) / _ASPECT)


def _activations(model: MLLMConfig, stage: Stage, tokens: SampleTokens, costs: Mapping[str, Cost], part: str) -> float:
    """Bytes, in 16 bits, that a part keeps of one sample for the way back: where it trains, or one before it does."""
    names = list(costs)
    before = [] if part.startswith("encoders.") else names[: names.index(part)]
    if not trains(stage, part) and not any(trains(stage, name) for name in before):
        return 0.0
    mode = recomputed(stage.engine, part)
    shape = model.language.shape()
    if part == "language":
        width, layers, positions = float(shape.width), float(shape.layers), tokens.length
    else:
        cost = costs[part]
        encoder = part.startswith("encoders.")
        width = _width(cost.parameters) if encoder else float(shape.width)
        layers = max(1.0, width / _ASPECT) if encoder else 1.0
        positions = cost.flops / (_BLOCK_FLOPS * width**2 * layers)
    block = width * positions
    return block * (_KEPT[mode] * layers + (_KEPT["none"] if mode == "full" else 0))


def recomputed(engine: Engine, part: str) -> Recompute:
    """What of a part is computed again on the way back."""
    return next((mode for pattern, mode in engine.recompute.items() if fnmatchcase(part, pattern)), "none")


def changes(stage: Stage, world: int, *, frozen: bool, exact: bool = False) -> list[tuple[str, Stage]]:
    """What may be changed for a stage to fit, gentlest first: in words, and the stage with it. ``frozen``: whether it
    holds any frozen weights; ``exact``: only what changes no result beyond rounding."""

    def engine(**fields: object) -> Stage:
        return stage.model_copy(update={"engine": stage.engine.model_copy(update=fields)})

    full, sharded = {"recompute": {"*": "full"}}, {"parallel": "fsdp"}
    found: list[tuple[str, Stage]] = [("", stage), ("recompute full", engine(**full))]
    if world > 1:
        found.append((f"fsdp over {world}", engine(**sharded)))
        found.append((f"fsdp over {world}, recompute full", engine(**sharded, **full)))
    where, last = found[-1]
    if exact:
        return found
    if frozen:
        where, last = f"{where}, frozen weights in bf16", last.model_copy(update={"frozen_precision": "bf16"})
        found.append((where, last))
    found.append((f"{where}, adamw_8bit", last.model_copy(update={"optimizer": "adamw_8bit"})))
    found.append((f"{where}, bf16_pure", last.model_copy(update={"precision": "bf16_pure"})))
    return found


def smaller(stage: Stage, world: int) -> list[Stage]:
    """The stage as it is, then with ever smaller micro-batches that divide its batch."""
    if stage.engine.packing is not None:
        return [stage]
    largest = min(stage.micro_batch or stage.batch, math.ceil(stage.batch / world))
    sizes = [size for size in range(largest, 0, -1) if stage.batch % size == 0]
    return [stage, *(stage.model_copy(update={"micro_batch": size}) for size in sizes)]
