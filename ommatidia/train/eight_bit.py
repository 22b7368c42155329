"""AdamW with both moments in 8 bits: about 2 bytes of state for a parameter instead of 8.

Moments are kept in blocks of 256 numbers of a row, each relative to its block's largest, as Dettmers et al. (2022,
arXiv 2110.02861) do for whole tensors; by rows, so that ranks may hold shards of them and exchange those. A code c of
127 (first moment, with a sign) or 255 (second moment) levels stands for (c / levels)^p:
near 0 the levels lie dense, and a step from one to the next is a change of p / c. With p = 4 for the first moment and
8 for the second, whose root is what the update divides by, both reach down to 4e-9 of the largest or less, with levels
3 % apart at the top. A second moment above 0 never becomes 0, which would let the update explode.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ommatidia.train.pieces import sharded_as

BLOCK = 256
NARROW = 64
"""Rows with fewer numbers (norms, biases, gates) keep their moments in float32, as is usual."""
_SLICE = 2**24
"""Numbers worked on at a time, so that the float32 copies of a large matrix never exist at once."""


class AdamW8bit(torch.optim.Optimizer):
    """The update of ``torch.optim.AdamW`` in float32, from moments that are kept in 8 bits in between.

    A weight in bfloat16 is rounded up or down at random in proportion, so that small updates are not lost: on average
    it moves by as much as it should.
    """

    def __init__(
        self, groups: Iterable[Any], *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(_fresh(parameter))
        state["step"] += 1
        count, held = int(state["step"]), {name: _rows(value) for name, value in state.items() if name != "step"}
        weight_RC, gradient_RC = _rows(parameter), _rows(parameter.grad)
        if not weight_RC.numel():  # a rank may hold no row of a small matrix
            return
        some = max(1, _SLICE // weight_RC.shape[1])
        for start in range(0, len(weight_RC), some):
            rows = slice(start, start + some)
            moments = {name: value[rows] for name, value in held.items()}
            _step(weight_RC[rows], gradient_RC[rows].float(), moments, count, group)


def _rows(tensor: Any) -> Tensor:
    """What this process holds as a matrix that shares its memory: along its first axis, and the rest as it lies."""
    local = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()
    if local.ndim < 2:
        return local.view(-1, 1)
    inner = sorted(range(1, local.ndim), key=local.stride, reverse=True)  # channels last: channels at the end
    return local.permute(0, *inner).view(len(local), -1) if local.numel() else local.reshape(len(local), 0)


def _fresh(parameter: nn.Parameter) -> dict[str, Tensor]:
    """Moments of nothing, held in shards where the parameter is."""
    step, columns = torch.zeros((), dtype=torch.int64), parameter[0].numel() if parameter.ndim > 1 else 1
    if columns < NARROW:
        zeros = torch.zeros_like(parameter, dtype=torch.float32)
        return {"step": step, "mean": zeros, "square": zeros.clone()}
    blocks = -(-columns // BLOCK)
    if isinstance(parameter, DTensor):
        local = parameter.to_local()
        zeros = torch.zeros(len(local), blocks, device=local.device)
        scale: Tensor = sharded_as(parameter, zeros, (len(parameter), blocks))
    else:
        scale = torch.zeros(len(parameter), blocks, device=parameter.device)
    return {
        "step": step,
        "mean": torch.zeros_like(parameter, dtype=torch.int8), "mean_scale": scale,
        "square": torch.zeros_like(parameter, dtype=torch.uint8), "square_scale": scale.clone(),
    }  # fmt: skip


def _step(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], count: int, group: dict[str, Any]) -> None:
    """Move ``weight`` and renew the moments of ``state``, both in place; all of them matrices of the same rows."""
    first, second = group["betas"]
    small = "mean_scale" not in state
    mean = state["mean"] if small else decode(state["mean"], state["mean_scale"])
    square = state["square"] if small else decode(state["square"], state["square_scale"])
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = (square / (1 - second**count)).sqrt_().add_(group["eps"])
    moved = weight.float() * (1 - group["lr"] * group["weight_decay"])
    moved.addcdiv_(mean, root, value=-group["lr"] / (1 - first**count))
    weight.copy_(moved if weight.dtype != torch.bfloat16 else rounded(moved))
    if not small:
        for name, moment in (("mean", mean), ("square", square)):
            codes, scale = encode(moment, signed=name == "mean")
            state[name].copy_(codes)
            state[f"{name}_scale"].copy_(scale)


def encode(moment_RC: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Codes (int8 with a sign, uint8 without) and the largest size in each block of a row."""
    columns = moment_RC.shape[1]
    blocks_RKB = nn.functional.pad(moment_RC, (0, -columns % BLOCK)).unflatten(1, (-1, BLOCK))
    scale_RK = blocks_RKB.abs().amax(2)
    share = blocks_RKB / scale_RK.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(2)
    share_RC = share.flatten(1)[:, :columns]
    if signed:
        root = share_RC.abs().sqrt_().sqrt_().mul_(127).round_()
        return root.copysign_(share_RC).to(torch.int8), scale_RK
    root = share_RC.sqrt().sqrt_().sqrt_().mul_(255).round_()
    return root.clamp_(min=1).mul_(share_RC > 0).to(torch.uint8), scale_RK


def decode(codes_RC: Tensor, scale_RK: Tensor) -> Tensor:
    """The float32 numbers that ``encode`` made codes of."""
    signed = codes_RC.dtype == torch.int8
    share = codes_RC.float().div_(127 if signed else 255)
    power = share.square().square_()
    power = power.copysign_(share) if signed else power.square_()
    return power.mul_(scale_RK.repeat_interleave(BLOCK, 1)[:, : codes_RC.shape[1]])


def rounded(values: Tensor) -> Tensor:
    """Float32 numbers in bfloat16, each to one of its two neighbours with the chance that keeps the mean."""
    bits = values.view(torch.int32)
    noise = torch.randint_like(bits, 2**16)
    return (bits + noise).bitwise_and_(-(2**16)).view(torch.float32).to(torch.bfloat16)
