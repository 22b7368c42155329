"""A tiny whole model with two eyes, deep enough to have blocks, and a batch for it."""

from __future__ import annotations

from typing import Any

import model_toys
import torch
from torch import Tensor

from ommatidia.core.types import Batch
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.train.freeze import freeze, select

LANGUAGE = {**model_toys.SCRATCH, "layers": 3}
ENCODERS = {
    "a": model_toys.PATCHES,
    "b": {**model_toys.VIT, "args": {"depth": 2, "embed_dim": 32, "num_heads": 2}},
}


def config(**changes: Any) -> MLLMConfig:
    return model_toys.config("a", "b", **({"encoders": ENCODERS, "language": LANGUAGE} | changes))


def built(train: dict[str, float] | None = None, **changes: Any) -> tuple[MLLM, Batch]:
    """The model with what ``train`` names trainable (everything by default), and a batch of four samples."""
    value = config(**changes)
    model, processor = model_toys.lively(build_model(value, seed=0)), Processor(value)
    parts = model.parts()
    freeze(parts, select(parts, train or {"*": 1e-3}))
    return model, processor.collate([processor(sample) for sample in model_toys.mixed_samples()])


def gradients(model: MLLM, batch: Batch) -> dict[str, Tensor]:
    """Of every parameter that gets one; those of before are gone."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(5)  # dropout
    model.loss(batch)[0].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())
