"""Weights carried over to the same model at other image sizes: tables of positions resampled, all else as it is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ommatidia.models.build import build_untrained_part
from ommatidia.models.config import MLLMConfig


def resized(state: Mapping[str, Tensor], made_for: MLLMConfig, into: MLLMConfig) -> dict[str, Tensor]:
    """Tensors by ``part:parameter``, as ``made_for`` has them, for ``into``, which differs in image sizes alone."""
    found = dict(state)
    for name, encoder in into.encoders.items():
        before = made_for.encoders.get(name, encoder)
        if before != encoder:
            trunk, path = _below(state, f"encoders.{name}:trunk.")
            found |= {path + key: tensor for key, tensor in encoder.fitted(trunk, before).items()}
    old, new = made_for.fused_grid(), into.fused_grid()
    if old is not None and new is not None and old != new:
        inner, path = _below(state, "projector:")
        found |= {path + key: tensor for key, tensor in into.projector.fitted(inner, old, new).items()}
    return found


def _below(state: Mapping[str, Tensor], path: str) -> tuple[dict[str, Tensor], str]:
    return {key.removeprefix(path): tensor for key, tensor in state.items() if key.startswith(path)}, path


def misfit(made_for: MLLMConfig, into: MLLMConfig, part: str) -> str | None:
    """A tensor of a part that cannot be carried over from ``made_for`` to ``into``; None where all of them can."""
    with torch.device("meta"):
        state, wanted = (
            {f"{part}:{name}": tensor for name, tensor in build_untrained_part(one, part).state_dict().items()}
            for one in (made_for, into)
        )
        found = resized(state, made_for, into)
    return next((name for name in {**wanted, **found} if _shape(found, name) != _shape(wanted, name)), None)


def _shape(state: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None
