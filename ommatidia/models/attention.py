"""Attention between two token sequences, what it costs, and rotary positions on a grid.

Shapes: B batch, N tokens that ask, M tokens that are looked at, D channels, A heads, d channels a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.grid import Cost


class Attention(nn.Module):
    """Multi-head attention of x_BND over y_BMC (None: over itself), by torch's scaled_dot_product_attention.

    Keys carry no bias: it would shift all scores of a query alike and cancel in the softmax. ``inner_norm`` puts a
    LayerNorm over the joined heads before the output layer (the sub-LN of MoVA and EVA-02).
    """

    def __init__(
        self, dim: int, source: int | None = None, *, heads: int, head_dim: int, bias: bool = True,
        inner_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        source, inner = source or dim, heads * head_dim
        self.heads = heads
        self.query = nn.Linear(dim, inner, bias=bias)
        self.key = nn.Linear(source, inner, bias=False)
        self.value = nn.Linear(source, inner, bias=bias)
        self.norm: nn.Module = nn.LayerNorm(inner) if inner_norm else nn.Identity()
        self.out = nn.Linear(inner, dim, bias=bias)

    def forward(
        self, x_BND: Tensor, y_BMC: Tensor | None = None, *, sees_BM: Tensor | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Tensor:  # fmt: skip
        """``sees_BM``: False where a token must not be looked at. ``grid``: both sides lie on this grid (rows, columns)
        and queries and keys are turned by their places there."""
        y_BMC = x_BND if y_BMC is None else y_BMC
        q, k, v = (
            layer(z).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # B, A, N, d
            for layer, z in ((self.query, x_BND), (self.key, y_BMC), (self.value, y_BMC))
        )
        if grid is not None:
            q, k = rotate(q, *grid), rotate(k, *grid)
        mask = None if sees_BM is None else sees_BM[:, None, None, :]
        out_BAND = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(self.norm(out_BAND.transpose(1, 2).flatten(2)))


def attention_cost(
    dim: int, source: int | None = None, *, inner: int, queries: int, keys: int, bias: bool = True,
    inner_norm: bool = False,
) -> Cost:  # fmt: skip
    """What ``Attention`` holds and does with ``inner`` = heads * head_dim, for one view."""
    source = source or dim
    parameters = 2 * dim * inner + 2 * source * inner
    parameters += (2 * inner + dim if bias else 0) + (2 * inner if inner_norm else 0)
    flops = 4.0 * queries * dim * inner + 4.0 * keys * source * inner + 4.0 * queries * keys * inner
    return Cost(parameters, flops)


def rotate(x_BANd: Tensor, rows: int, columns: int) -> Tensor:
    """Rotary positions in two dimensions: the first half of the angles count rows, the others columns.

    Angles are made in float32 whatever the type of x; d must be a multiple of 4.
    """
    quarter = x_BANd.shape[-1] // 4
    device = x_BANd.device
    frequencies = 10000.0 ** (-torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
    row_N = torch.arange(rows, device=device).repeat_interleave(columns)
    column_N = torch.arange(columns, device=device).repeat(rows)
    angles = torch.cat([row_N[:, None] * frequencies, column_N[:, None] * frequencies], -1)
    sine, cosine = angles.sin(), angles.cos()
    first, second = x_BANd.float().chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1).to(x_BANd.dtype)
