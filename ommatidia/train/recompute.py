"""Activation recomputation: what the blocks of a part keep for the way back, and what they compute a second time.

``full`` keeps a block's inputs alone and runs it again (Chen et al. 2016, arXiv 1604.06174). ``selective`` also keeps
the outputs of matrix products, convolutions and attention, so that only cheap operations run again (Korthikanti et al.
2022, arXiv 2205.05198, section 5). Gradients are those of the plain pass, dropout included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from ommatidia.core.globs import by_holding
from ommatidia.models.blocks import blocks
from ommatidia.train.engine import Recompute

_KEPT = frozenset({
    "aten::mm", "aten::addmm", "aten::convolution", "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention", "aten::_scaled_dot_product_fused_attention_overrideable",
    "aten::_scaled_dot_product_attention_math_for_mps", "aten::_flash_attention_forward", "aten::_scaled_mm",
    "torch_attn::_varlen_attn",
})  # fmt: skip
"""Operations whose outputs are kept. A batched product is not among them: in attention without a fused kernel it makes
the square of all scores, which is the first thing one does not want to keep."""


def recompute(parts: Mapping[str, nn.Module], wanted: Mapping[str, Recompute]) -> dict[str, int]:
    """Have the blocks of the parts that ``wanted`` names drop activations; how many blocks that are, by part.

    A block acts only where a gradient will pass: one that is frozen behind nothing that trains costs nothing more.
    Names, types and hooks of the modules stay as they are. Parts without blocks may be covered by a glob that names
    others too.

    Raises ConfigError for a glob that matches no part, or only parts that have no blocks.
    """
    held = {part: blocks(module) for part, module in parts.items()}
    chosen = by_holding(wanted, held, field="engine.recompute", what="row of like blocks")
    kinds = {part: kind for part, kind in chosen.items() if kind != "none"}
    for part, kind in kinds.items():
        for block in held[part]:
            _wrap(block, kind)
    return {part: len(held[part]) for part in kinds}


def _wrap(block: nn.Module, kind: Recompute) -> None:
    """Put the recomputation around ``block.forward``; hooks of the block stay outside of it and fire once."""
    plain: Any = block.forward
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    again = {"context_fn": partial(_contexts, kind, norms)} if norms else dict(_CONTEXTS[kind])

    def forward(*args: Any, **options: Any) -> Any:
        if not _needed(block, args, options):
            return plain(*args, **options)
        return checkpoint(plain, *args, use_reentrant=False, **again, **options)

    block.forward = forward


def _needed(block: nn.Module, args: Any, options: Any) -> bool:
    """Whether the block will be asked for gradients."""
    if not torch.is_grad_enabled():
        return False
    if any(parameter.requires_grad for parameter in block.parameters()):
        return True
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves((args, options)))


def _policy(context: Any, operation: Any, *args: Any, **options: Any) -> CheckpointPolicy:
    name = operation.name()
    kept = name.split(".")[0] in _KEPT or name.startswith("flex_attention")
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


_CONTEXTS: Mapping[Recompute, Mapping[str, Any]] = {
    "full": {},
    "selective": {"context_fn": partial(create_selective_checkpoint_contexts, _policy)},
}


def _contexts(kind: Recompute, norms: list[_BatchNorm]) -> tuple[Any, Any]:
    """Contexts of the first pass and of the second, in which batch norms do not count the batch again."""
    first, second = _CONTEXTS[kind]["context_fn"]() if kind == "selective" else (contextlib.nullcontext(),) * 2
    return first, _still([norm for norm in norms if norm.training], second)


@contextlib.contextmanager
def _still(norms: list[_BatchNorm], inner: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
    """Inside, these normalise by their batch and leave their running statistics as they are."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm, _, count in before:
            norm.momentum = 0.0
            if count is not None:
                norm.num_batches_tracked = count.clone()
        with inner:
            yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
