"""What weights are held in: float32, or bfloat16 where a stage says so.

Frozen matrices in bfloat16 lose nothing that autocast would not round away for each product anyway; it then has nothing
to round. These stay in float32 whatever is asked: torch's norms, which take float32 under autocast (batch norms with
their statistics), tables that are computed and not stored (rotary frequencies, whose angles grow with the position),
and, but for bf16_pure, modules of which something trains.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ommatidia.models.vision.encoder import VisionEncoder
from ommatidia.train.freeze import Trained
from ommatidia.train.stage import Stage

_WIDE = (torch.float32, torch.float64)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def hold(parts: Mapping[str, nn.Module], trained: Trained, stage: Stage) -> None:
    """Cast what ``parts`` hold to what ``stage.precision`` and ``stage.frozen_precision`` ask for.

    A tied weight that trains under any of its names counts as trained under all. Names and ties stay. A trunk that is
    frozen as a whole goes further with frozen_precision bf16: norms and all, it computes in bfloat16 throughout, as
    where it is served.
    """
    training = {id(parameter) for parameter in trained.parameters(parts).values()}

    def trains(module: nn.Module) -> bool:
        return any(id(parameter) in training for parameter in module.parameters(recurse=False))

    for part in parts.values():
        if isinstance(part, VisionEncoder):
            part.low = False
        for module in part.modules():
            low = stage.precision == "bf16_pure" if trains(module) else stage.frozen_precision == "bf16"
            if low and not isinstance(module, (*_NORMS, _BatchNorm)):
                _cast(module)
        frozen = isinstance(part, VisionEncoder) and not any(map(trains, part.trunk.modules()))
        if isinstance(part, VisionEncoder) and frozen and stage.frozen_precision == "bf16":
            to_bfloat16(part.trunk)
            part.low = True


def to_bfloat16(module: nn.Module) -> None:
    """Cast a module and everything below it, so that it can run without autocast; batch norms take either type."""
    for child in module.modules():
        if not isinstance(child, _BatchNorm):
            _cast(child)


def _cast(module: nn.Module) -> None:
    """What the module itself owns and what is part of its state."""
    for parameter in module.parameters(recurse=False):
        if parameter.dtype in _WIDE:
            parameter.data = parameter.data.to(torch.bfloat16)
            parameter.grad = None
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.dtype in _WIDE and name not in module._non_persistent_buffers_set:
            module._buffers[name] = buffer.to(torch.bfloat16)
