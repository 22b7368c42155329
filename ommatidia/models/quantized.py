"""A frozen linear layer held in 4 or 8 bits: its matrix is made again for each product, forwards and backwards."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.models.nf4 import dequantize_nf4, quantize_nf4

Kind = Literal["nf4", "int8"]


class QuantizedLinear(nn.Module):
    """Stands for ``linear``, whose numbers it rounds; gradients pass to its input alone.

    nf4 keeps blocks of 64 numbers as codes of 4 bits beside the block's largest (``models/nf4.py``), int8 rows as
    codes of 8 bits beside the row's. Quantising the matrix that it stands for gives the same matrix again.
    The tensors are no part of the state: ``adapters.plain_state`` saves what they stand for.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, kind: Kind) -> None:
        super().__init__()
        self.kind, self.in_features, self.out_features = kind, linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        if kind == "nf4":
            codes, scale = quantize_nf4(weight)
        else:
            scale = weight.abs().amax(1, keepdim=True)
            codes = (weight * (127 / scale.clamp(min=torch.finfo(torch.float32).tiny))).round().to(torch.int8)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        bias = None if linear.bias is None else linear.bias.detach().clone()
        self.register_buffer("bias", bias, persistent=False)

    @property
    def weight(self) -> Tensor:
        """The float32 matrix that the codes stand for."""
        return self.dequantized(torch.float32)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The matrix in ``dtype``."""
        if self.kind == "int8":
            return (self.codes.float() * (self.scale / 127)).to(dtype)
        return dequantize_nf4(self.codes, self.scale, (self.out_features, self.in_features), dtype)

    def linear(self) -> nn.Linear:
        """A plain layer with the numbers that this one stands for."""
        made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device=self.codes.device)
        made.weight.data = self.weight
        if self.bias is not None:
            made.bias.data = self.bias.clone()
        return made

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        return _Product.apply(x.to(dtype), self)


class _Product(torch.autograd.Function):
    """Keeps nothing but the codes for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        with torch.autocast(x.device.type, enabled=False):
            bias = None if layer.bias is None else layer.bias.to(x.dtype)
            return functional.linear(x, layer.dequantized(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        with torch.autocast(gradient.device.type, enabled=False):
            return gradient @ ctx.layer.dequantized(gradient.dtype), None
