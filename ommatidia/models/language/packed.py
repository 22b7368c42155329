"""Attention over a pack: samples one behind another in one row, each seeing only itself; for any decoder.

A pack says where its samples begin by its mask: whole numbers B_1_1_S+1 (B and the ones are 1), the boundaries. Made in
the form of a prepared mask they pass through every decoder of transformers to the attention function, which is here;
a mask of any other type goes on to transformers' own ``sdpa``. Because the boundaries are an argument of each block,
a block that is computed again on the way back finds them again.

Shapes: A heads, N key-value heads, T tokens of the pack, S samples, d channels a head.
"""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "ommatidia"
"""Of the attention function in transformers' register."""


def boundaries(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """The mask of a pack of samples of these lengths."""
    ends = torch.tensor((0, *lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return ends.to(device, non_blocking=True).view(1, 1, 1, -1)


def places(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Positions 1_T that start anew with every sample."""
    return torch.cat([torch.arange(length) for length in lengths]).to(device, non_blocking=True)[None]


def prepare(decoder: PreTrainedModel) -> bool:
    """Let a decoder that attends through transformers' ``sdpa`` attend through this file; whether it does now.

    False for one that lays its scores out itself (Gemma 2 caps them): transformers makes it masks from the positions,
    which start anew with every sample.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if decoder.config.get_text_config()._attn_implementation == NAME:
        return True
    if decoder.config.get_text_config()._attn_implementation != "sdpa" or not decoder._supports_attention_backend:
        return False
    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
    decoder.set_attn_implementation(NAME)
    return True


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: query B_A_T_d, key and value B_N_T_d; gives B_T_A_d."""
    if attention_mask is None or attention_mask.dtype != torch.int32:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    window = more.get("sliding_window")
    ends_S = attention_mask.view(-1)
    if _kernel_takes(query, dropout):
        return _by_kernel(query, key, value, ends_S, scaling, window).unsqueeze(0), None
    found = [
        _alone(query[:, :, first:end], key[:, :, first:end], value[:, :, first:end], dropout, scaling, window)
        for first, end in pairwise(ends_S.tolist())
    ]
    return torch.cat(found, 2).transpose(1, 2).contiguous(), None


def _alone(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, scaling: float | None, window: int | None
) -> Tensor:
    """One sample of the pack. ``window``: how many positions a token sees, itself included."""
    length, grouped = query.shape[2], query.shape[1] != key.shape[1]
    mask = None
    if window is not None and window < length:
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    return functional.scaled_dot_product_attention(
        query, key, value, mask, dropout, is_causal=mask is None and length > 1, scale=scaling, enable_gqa=grouped
    )


def _kernel_takes(query: Tensor, dropout: float) -> bool:
    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout and _kernel() is not None


def _kernel() -> Any:
    """torch's attention over samples of different lengths, where there is one that takes a scale and a window."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if {"scale", "window_size"} <= inspect.signature(varlen_attn).parameters.keys() else None


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, ends_S: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """The whole pack at once, T_A_d. The longest sample is not asked for: that would wait for the device."""
    total, groups = query.shape[2], query.shape[1] // key.shape[1]
    q, k, v = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    if groups > 1:
        k, v = (part.repeat_interleave(groups, 1) for part in (k, v))
    reach = (-1 if window is None else window - 1, 0)
    return _kernel()(q, k, v, ends_S, ends_S, total, total, scale=scaling, window_size=reach)
