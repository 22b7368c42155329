"""An exponential moving average of the trained weights, which is then what a stage leaves behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ommatidia.core.errors import RunError
from ommatidia.train.pieces import local

SLOT = "ema"
"""Under which name the average lies among the optimiser's state in a checkpoint."""


class Average:
    """average <- decay * average + (1 - decay) * weight after every step, from the starting weights on, in float32.

    Buffers that training changes (batch-norm statistics) are averages already and are taken as they are.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay, self._parameters = decay, dict(parameters)
        self._held = {name: parameter.detach().float().clone() for name, parameter in self._parameters.items()}

    @classmethod
    def of(cls, parameters: Mapping[str, nn.Parameter], decay: float | None) -> Average:
        """With a decay of None an average of nothing, beside which the weights stay as they are."""
        return cls({} if decay is None else parameters, decay or 0.0)

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of a finished step in."""
        for name, parameter in self._parameters.items():
            local(self._held[name]).lerp_(local(parameter.detach()).float(), 1 - self.decay)

    def tensors(self) -> dict[str, Tensor]:
        """The live averages by parameter."""
        return dict(self._held)

    def state(self) -> dict[str, Tensor]:
        """The live averages as "ema/<parameter>", for a checkpoint."""
        return {f"{SLOT}/{name}": tensor for name, tensor in self._held.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what ``state`` gave; other entries are left alone. Raises RunError where one is missing."""
        for name, held in self._held.items():
            if f"{SLOT}/{name}" not in state:
                raise RunError(f"checkpoint: no average of {name!r}; it was made by a stage without ema")
            local(held).copy_(local(state[f"{SLOT}/{name}"]))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model runs on the averages; the trained weights come back behind it, bit for bit."""
        with torch.no_grad():
            trained = [local(parameter).clone() for parameter in self._parameters.values()]
            for name, parameter in self._parameters.items():
                local(parameter).copy_(local(self._held[name]))
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, weight in zip(self._parameters.values(), trained, strict=True):
                    local(parameter).copy_(weight)


def without(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An optimiser's state without the average that lies beside it."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(f"{SLOT}/")}
