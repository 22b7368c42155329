"""The contract of a part: what every encoder, fusion, projector, scorer ... keeps, as checks that name what is broken.

The package's own tests run these checks over every registered kind; ``omma check-part`` runs them over a user's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

F = TypeVar("F", bound=Callable[..., None])


class ContractError(AssertionError):
    """A part breaks its contract: what was promised and what was found."""


class Contract:
    """Base of the contracts: the checks are the methods marked with ``check``, in the order they are written."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], None]]:
        """By what each of them promises."""
        return {method.__doc__.strip(): method for method in vars(cls).values() if getattr(method, "is_check", False)}


def check(method: F) -> F:
    """Mark a method as a check; its docstring is what it promises, and it raises ContractError where that is broken."""
    method.is_check = True  # type: ignore[attr-defined]
    return method


def expect(holds: object, problem: str) -> None:
    """Raises ContractError unless ``holds``."""
    if not holds:
        raise ContractError(problem)


def expect_close(found: Tensor, wanted: Tensor, what: str, *, tolerance: float = 1e-4) -> None:
    """Raises ContractError where two tensors differ by more than ``tolerance``, relative and absolute."""
    if found.shape != wanted.shape:
        raise ContractError(f"{what}: shape {tuple(found.shape)}, expected {tuple(wanted.shape)}")
    if not torch.allclose(found, wanted, rtol=tolerance, atol=tolerance):
        raise ContractError(f"{what}: differs by up to {float((found - wanted).abs().max()):.2e}")


def expect_gradients(module: nn.Module) -> None:
    """Raises ContractError where a parameter has no gradient, or a gradient of zeros."""
    silent = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().any()]
    expect(not silent, f"no gradient reaches {', '.join(silent[:5])}")


def expect_unchanged(module: nn.Module, before: dict[str, Tensor]) -> None:
    """Raises ContractError where a tensor of the module's state is not bit-identical to what it was."""
    changed = [name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])]
    expect(not changed, f"it changed while frozen: {', '.join(changed[:5])}")


def off_zero(module: nn.Module) -> nn.Module:
    """The module away from its start: what starts at zero lets no gradient through to what comes before it."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return module


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the module's state."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
