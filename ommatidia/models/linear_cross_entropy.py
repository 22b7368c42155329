"""Cross-entropy of a linear layer's outputs, a few positions at a time: all logits never exist at once.

Shapes: S supervised positions, C positions of a chunk, E width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def linear_cross_entropy(h_SE: Tensor, weight_VE: Tensor, targets_S: Tensor, *, chunk: int) -> Tensor:
    """Sum over S of the cross-entropy of ``h_SE @ weight_VE.T``, in float32.

    At most ``chunk`` x V logits exist at a time, on the way there and back: the gradients of a chunk are made with its
    loss, where its logits are at hand, and only scaled later. Products run in autocast's type where that is on, and
    logits are then rounded to it as they are without chunks.
    """
    return _Chunked.apply(h_SE, weight_VE, targets_S, chunk)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h_SE: Tensor, weight_VE: Tensor, targets_S: Tensor, chunk: int) -> Tensor:
        device = h_SE.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else h_SE.dtype
        wants_h, wants_w = ctx.needs_input_grad[:2]
        grad_SE = torch.empty_like(h_SE) if wants_h else None
        grad_VE = torch.zeros_like(weight_VE, dtype=torch.float32) if wants_w else None
        total = h_SE.new_zeros((), dtype=torch.float32)
        with torch.autocast(device, enabled=False):
            cast_VE = weight_VE.to(dtype)
            for start in range(0, len(h_SE), chunk):
                rows = slice(start, start + chunk)
                h_CE, targets_C1 = h_SE[rows].to(dtype), targets_S[rows].unsqueeze(1)
                logits_CV = (h_CE @ cast_VE.T).float()
                norm_C1 = logits_CV.logsumexp(1, keepdim=True)
                total += (norm_C1 - logits_CV.gather(1, targets_C1)).sum()
                if grad_SE is None and grad_VE is None:
                    continue
                slope_CV = logits_CV.sub_(norm_C1).exp_()  # softmax, in the place of the logits
                slope_CV.scatter_add_(1, targets_C1, torch.full_like(norm_C1, -1.0))
                slope_CV = slope_CV.to(dtype)
                if grad_SE is not None:
                    grad_SE[rows] = slope_CV @ cast_VE
                if grad_VE is not None:
                    grad_VE += slope_CV.T @ h_CE
        ctx.grads, ctx.dtype = (grad_SE, grad_VE), weight_VE.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *scales: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        if ctx.grads is None:
            raise RuntimeError("a second backward pass through a chunked loss, whose gradients are made with it")
        (grad_SE, grad_VE), ctx.grads, (scale,) = ctx.grads, None, scales  # scaled in place: they are as large as V x E
        return (
            None if grad_SE is None else grad_SE.mul_(scale),
            None if grad_VE is None else grad_VE.mul_(scale).to(ctx.dtype),
            None,
            None,
        )


def cross_entropy_sum(logits_SV: Tensor, targets_S: Tensor) -> Tensor:
    """Sum over S, in float32."""
    return functional.cross_entropy(logits_SV.float(), targets_S, reduction="sum")
