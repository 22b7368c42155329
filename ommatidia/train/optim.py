"""Optimisers over parameter groups, the learning rate as a pure function of the step, gradient norms and clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.train.adafactor import Adafactor
from ommatidia.train.eight_bit import AdamW8bit
from ommatidia.train.freeze import Trained
from ommatidia.train.pieces import whole
from ommatidia.train.stage import Shape, Stage


def schedule(step: int, *, total: int, warmup: float, shape: Shape, final: float = 0.0) -> float:
    """Factor on the peak learning rate at ``step`` (0 is the first) of ``total``.

    With W = round(warmup * total) it is (step + 1) / W for the first W steps, then falls from 1 towards ``final``,
    which it would reach at ``total``: final + (1 - final) f with f = 1 - p (linear) or (1 + cos(pi p)) / 2 (cosine)
    and p = (step - W) / (total - W).
    """
    rise = min(round(warmup * total), total - 1)
    if step < rise:
        return (step + 1) / rise
    progress = min((step - rise) / (total - rise), 1.0)
    if shape == "constant":
        return 1.0
    fall = 1.0 - progress if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final + (1.0 - final) * fall


def rate_factor(step: int, *, total: int, stage: Stage) -> float:
    """``schedule`` as a stage has it."""
    return schedule(step, total=total, warmup=stage.warmup, shape=stage.schedule, final=stage.final_rate)


def optimizer(parts: Mapping[str, nn.Module], trained: Trained, stage: Stage) -> torch.optim.Optimizer:
    """The stage's optimiser with one group for each (learning rate, decay).

    Parameters with fewer than two axes never decay: biases, norm weights, gates and layer scales. A group keeps its
    peak rate under "peak". Adafactor (Shazeer and Stern 2018, arXiv 1804.04235) takes neither betas nor eps, and scales
    its rate by the size of each weight.

    Raises ConfigError when a trained parameter is not held in what the stage's precision trains.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in trained.parameters(parts).items():
        decays = stage.weight_decay > 0 and parameter.ndim >= 2
        groups.setdefault((trained.rates[name], decays), []).append(parameter)
        _check_dtype(name, parameter, stage)
    given = [
        {"params": group, "lr": rate, "peak": rate, "weight_decay": stage.weight_decay if decays else 0.0}
        for (rate, decays), group in groups.items()
    ]
    if stage.optimizer == "adamw_8bit":
        return AdamW8bit(given, betas=stage.betas, eps=stage.eps)
    if stage.optimizer == "adafactor":
        return Adafactor(given)
    devices = {parameter.device.type for group in groups.values() for parameter in group}
    # Fused: one pass over memory instead of about ten.
    return torch.optim.AdamW(given, betas=stage.betas, eps=stage.eps, fused=devices <= {"cpu", "cuda"})


def _check_dtype(name: str, parameter: nn.Parameter, stage: Stage) -> None:
    if stage.precision == "bf16_pure":
        valid, why = (torch.bfloat16, torch.float32), "bfloat16 (precision bf16_pure)"
    else:
        valid, why = (torch.float32, torch.float64), "float32 (bf16 casts inside the step)"
    if parameter.dtype not in valid:
        raise ConfigError(f"{name} cannot train: it holds {parameter.dtype}, expected {why}")


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to ``factor`` times its peak learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float | None) -> Tensor:
    """Scale all gradients so that their global norm is at most ``limit``; the norm before that is returned."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = _norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def part_norms(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The norm of the gradients of each part of which something trains; 0 where nothing had one. Waits for nothing."""
    gradients: dict[str, list[Tensor]] = {}
    for name, parameter in parameters.items():
        held = gradients.setdefault(name.partition(":")[0], [])
        if parameter.grad is not None:
            held.append(parameter.grad)
    return {part: _norm(held) for part, held in gradients.items()}


def _norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients together; torch adds up shards, or whole tensors, but not one to the other."""
    shards = [gradient for gradient in gradients if isinstance(gradient, DTensor)]
    if not 0 < len(shards) < len(gradients):
        return nn.utils.get_total_norm(gradients)
    wholes = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    norms = [whole(nn.utils.get_total_norm(held)).float() for held in (shards, wholes)]
    return torch.linalg.vector_norm(torch.stack(norms))


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The live state tensors as "<slot>/<parameter>", for example "exp_avg/projector:0.weight".

    A parameter that has had no gradient yet has no state.
    """
    return {
        f"{slot}/{name}": value
        for name, parameter in parameters.items()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Put back what ``optimizer_state`` gave. Raises RunError for a tensor of a parameter that does not train."""
    optimizer.state.clear()
    for key, value in state.items():
        slot, _, name = key.partition("/")
        if name not in parameters:
            raise RunError(f"optimiser state: {name!r} does not train here")
        parameter = parameters[name]
        # Moments take the memory layout of their parameter (channels last), which the fused kernel relies on.
        like = parameter if value.shape == parameter.shape else value
        held = torch.empty_like(like, dtype=value.dtype, device=parameter.device, requires_grad=False)
        optimizer.state[parameter][slot] = held.copy_(value)
