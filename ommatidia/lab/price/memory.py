"""Bytes before anything runs: weights, and what training keeps beside them. Activations are not counted.

A trained parameter takes 16 bytes: its float32 value, the 16-bit copy that a step computes with, that copy's gradient,
and AdamW's two moments in float32 (4 + 2 + 2 + 8); a frozen one is kept in 16 bits (2), or in 32 where a stage computes
in float32 (4). See Rajbhandari et al., 2020 (ZeRO, arXiv 1910.02054), section 3.1. Our own trainer spends the same 16
on float32 weights and gradients, and 4 on a frozen parameter unless ``language.dtype`` stores it in 16 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.models.adapters import base
from ommatidia.models.build import build_untrained_part
from ommatidia.models.config import MLLMConfig
from ommatidia.models.cost import cost_by_part
from ommatidia.train.pattern import Pattern
from ommatidia.train.stage import Stage

TRAINED = 16
"""Bytes of a trained parameter."""
FROZEN = {"bf16": 2, "bf16_pure": 2, "fp32": 4}
"""Bytes of a frozen parameter by the stage's precision."""


@dataclass(frozen=True, slots=True)
class Held:
    """The parameters that a stage holds."""

    trained: int
    frozen: int

    def bytes(self, precision: str) -> int:
        return TRAINED * self.trained + FROZEN[precision] * self.frozen


def held(recipe: Recipe, stage: Stage) -> Held:
    """What one run of a stage holds; of the designs that share an expert stage, the one that takes most."""
    model = recipe.model
    if stage.distill is not None:
        learning, teaching = stage.distill.cost(model)
        return Held(learning.parameters, teaching.parameters)
    if stage.scope == "language":
        return _held(model, stage, {"language": parameters(model)["language"]})
    if stage.scope == "expert":
        singles = [with_encoders(recipe, {name: encoder}).model for name, encoder in model.encoders.items()]
        found = [_held(single, stage, parameters(single)) for single in singles]
        return max(found, key=lambda one: one.bytes(stage.precision))
    return _held(model, stage, parameters(model))


def parameters(model: MLLMConfig) -> dict[str, int]:
    """Of every part."""
    costs = cost_by_part(model, text_tokens=0, views=0, head_tokens=0)
    return {part: cost.parameters for part, cost in costs.items()}


def _held(model: MLLMConfig, stage: Stage, sizes: Mapping[str, int]) -> Held:
    trained = sum(_trained(model, stage, part, size) for part, size in sizes.items())
    return Held(trained, sum(sizes.values()) - trained)


def _trained(model: MLLMConfig, stage: Stage, part: str, size: int) -> int:
    patterns = [pattern for pattern in map(Pattern.parse, stage.train) if pattern.matches_part(part)]
    if not patterns or not size:
        return 0
    adapted = part in model.adapted()
    if not adapted and any(pattern.parameter is None for pattern in patterns):
        return size
    with torch.device("meta"):
        module = build_untrained_part(model, part)
    held = base(module)
    return sum(
        parameter.numel()
        for name, parameter in module.named_parameters()
        if any(p.matches_parameter(name) and (p.parameter is not None or id(parameter) not in held) for p in patterns)
    )
