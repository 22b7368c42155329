"""Batch norms that train: what their statistics depend on is said, and a batch that has none is refused.

A trunk is pre-trained, and its batch norms keep the statistics it came with (``VisionEncoder``). Necks, fusions,
projectors and injections of this package hold none. A part from elsewhere that does learns them from its batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ommatidia.core.console import console
from ommatidia.core.errors import RunError


def warn_of_batch_norm(parts: Mapping[str, nn.Module], *, micro_batch: int | None, world: int) -> None:
    """Say which parts train layers whose statistics depend on how the batch is divided."""
    for name, part in parts.items():
        if any(True for _ in _training(part)):
            among = "" if world == 1 else f" and on the number of ranks, {world}; those of rank 0 are kept"
            console().warn(
                f"{name} trains batch-norm layers: their statistics depend on micro_batch={micro_batch}{among}"
            )


@contextlib.contextmanager
def refusing_single_values(parts: Mapping[str, nn.Module]) -> Iterator[None]:
    """Inside, a norm that trains raises RunError for a batch with one value a channel, which has no variance."""
    hooks = [
        module.register_forward_pre_hook(partial(_refuse, f"{part}:{name}"))
        for part, whole in parts.items()
        for name, module in _training(whole)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _training(part: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Norms in train mode that keep statistics over batches, by name."""
    for name, module in part.named_modules():
        if isinstance(module, (_BatchNorm, _InstanceNorm)) and module.training:
            yield name, module


def _refuse(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    x: Tensor = inputs[0]
    alone = isinstance(module, _InstanceNorm)
    values = x[0, 0].numel() if alone else x.numel() // x.shape[1]
    if module.training and values == 1:
        seen = "a 1x1 map" if alone else "one view on a 1x1 map"
        raise RunError(
            f"{name}: this norm trains, and its batch holds one value a channel ({seen}, shape {list(x.shape)}), which "
            "has no variance; expected several: a larger micro_batch or image, or the layer frozen"
        )
