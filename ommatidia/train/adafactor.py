"""Adafactor on whole tensors and on shards: a second moment by rows and columns, no first one.

The update is that of ``torch.optim.Adafactor`` (Shazeer and Stern 2018, arXiv 1804.04235, algorithm 4), to the bit
where a rank holds the whole. torch's own cannot sum over shards; here each rank sums its rows, and the ranks add.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from ommatidia.train.pieces import local, sharded_as

_DECAY, _LEAST_SCALE, _MOST = -0.8, 1e-3, 1.0
"""Exponent of the second moment's decay, the least size of a weight that rates scale with, and the largest root mean
square of an update."""


class Adafactor(torch.optim.Optimizer):
    """Rates scale with each weight's size; the second moment of a matrix is the product of a row and a column."""

    def __init__(self, groups: Iterable[Any], *, lr: float = 1e-2) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient; ranks that hold shards must all call it."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["weight_decay"])
        return loss

    def _update(self, parameter: nn.Parameter, rate: float, weight_decay: float) -> None:
        state, least = self.state[parameter], torch.finfo(parameter.dtype).eps
        weight, gradient = _rows(parameter), _rows(parameter.grad)
        if not state:
            state.update(_fresh(parameter, gradient))
        state["step"] += 1
        count = float(state["step"])
        size = _root_mean_square(weight, parameter)
        moved = max(_LEAST_SCALE, size) * min(rate, count**-0.5)
        if weight_decay:
            weight.mul_(1 - rate * weight_decay)
        square = _second_moment(state, parameter, gradient, count**_DECAY, least)
        update = square.clamp_(min=least * least).rsqrt_().mul_(gradient)
        weight.add_(update, alpha=-moved / max(1.0, _root_mean_square(update, parameter) / _MOST))


def _second_moment(
    state: dict[str, Any], parameter: nn.Parameter, gradient: Tensor, new: float, least: float
) -> Tensor:
    """Renew the moments of ``state`` by the share ``new``; what they say of each number, as a tensor of its own."""
    if parameter.ndim < 2:
        _rows(state["variance"]).lerp_(gradient * gradient, new)
        return _rows(state["variance"]).clone()
    matrix = parameter.ndim == 2  # its rows are what ranks share out; of longer shapes each rank holds whole matrices
    if matrix and isinstance(state["col_var"], DTensor):  # a matrix of one row, read back from a checkpoint
        state["col_var"] = state["col_var"].full_tensor()
    row, column = _rows(state["row_var"]), _rows(state["col_var"])
    row.lerp_(torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).square_().div_(gradient.size(-1)), new)
    squares = torch.linalg.vector_norm(gradient, dim=-2, keepdim=True).square_()
    if not (matrix and isinstance(parameter, DTensor)):
        column.lerp_(squares.div_(gradient.size(-2)), new)
        mean = row.mean(dim=-2, keepdim=True)
    else:
        sums = _added(torch.cat([squares.float(), row.float().sum(dim=-2, keepdim=True)], dim=-1), parameter)
        sums = sums.div_(parameter.shape[0]).to(row.dtype)
        column.lerp_(sums[:, :-1], new)
        mean = sums[:, -1:]
    return (row @ column).div_(mean.clamp_(min=least))


def _fresh(parameter: nn.Parameter, gradient: Tensor) -> dict[str, Tensor]:
    """Moments of nothing, held in shards where the parameter is; a matrix's column is held by every rank.

    ``gradient``: this rank's rows of it.
    """
    step = torch.zeros(())
    if parameter.ndim < 2:
        return {"step": step, "variance": _sharded(parameter, gradient.new_zeros(gradient.shape), parameter.shape)}
    row_shape, column_shape = [*parameter.shape[:-1], 1], [*parameter.shape[:-2], 1, parameter.shape[-1]]
    row = _sharded(parameter, gradient.new_zeros(len(gradient), *row_shape[1:]), row_shape)
    if parameter.ndim == 2:
        return {"step": step, "row_var": row, "col_var": gradient.new_zeros(column_shape)}
    column = _sharded(parameter, gradient.new_zeros(len(gradient), *column_shape[1:]), column_shape)
    return {"step": step, "row_var": row, "col_var": column}


def _sharded(parameter: Tensor, rows: Tensor, shape: Sequence[int]) -> Tensor:
    return sharded_as(parameter, rows, shape) if isinstance(parameter, DTensor) else rows


def _rows(tensor: Any) -> Tensor:
    """What this rank holds, sharing its memory, in the shape of some or no rows of the whole."""
    held = local(tensor).detach()
    return held if held.numel() else held.reshape(0, *tensor.shape[1:])


def _root_mean_square(rows: Tensor, parameter: nn.Parameter) -> float:
    """Over all ranks' rows of a tensor that is held as ``parameter`` is."""
    norm = rows.norm(2)
    if isinstance(parameter, DTensor):
        norm = _added(norm.float().square(), parameter).sqrt_()
    return norm.item() / parameter.numel() ** 0.5


def _added(value: Tensor, parameter: Any) -> Tensor:
    """The sum of ``value``, in place, over the ranks that hold the whole of ``parameter`` between them."""
    for dim, placement in enumerate(parameter.placements):
        if isinstance(placement, Shard):
            dist.all_reduce(value, group=parameter.device_mesh.get_group(dim))
    return value
