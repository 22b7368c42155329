"""Restore: a checkpoint back into a model and its optimiser, however the ranks hold them and whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ommatidia.core.errors import RunError
from ommatidia.train import ema
from ommatidia.train.checkpoint import Checkpoint, differences
from ommatidia.train.freeze import Trained, load_trained
from ommatidia.train.optim import load_optimizer
from ommatidia.train.ranks import raise_on_all


def refuse_another(checkpoint: Checkpoint, run: Mapping[str, Any]) -> None:
    """Raises RunError, naming the differences, when the checkpoint is not of this run."""
    old, new = dict(checkpoint.run), dict(run)
    same_stage = old.pop("digest") == new.pop("digest")
    if not same_stage or any(old[name] != new[name] for name in ("steps", "seed", "key")):
        found = "; ".join(differences(old, new)) or "stage: another digest of equal fields (another version?)"
        raise raise_on_all(RunError(f"{checkpoint.folder}: this checkpoint is of another run: {found}"))


def restore(
    checkpoint: Checkpoint,
    parts: Mapping[str, nn.Module],
    trained: Trained,
    optimizer: torch.optim.Optimizer,
    average: ema.Average,
) -> None:
    """Load what the ranks hold of it. Raises RunError when tensors are missing, unknown or of other shapes."""
    weights, moments = checkpoint.group("trained"), checkpoint.group("optimizer")
    live, parameters = trained.tensors(parts), trained.parameters(parts)
    load_trained(parts, {name: weights.like(name, live.get(name)) for name in weights}, trained=trained)
    # A moment has the place of its parameter in its name, behind the slot.
    state = {key: moments.like(key, parameters.get(key.partition("/")[2])) for key in moments}
    load_optimizer(optimizer, parameters, ema.without(state))
    average.load(state)
