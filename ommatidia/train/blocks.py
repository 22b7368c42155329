"""Blocks: the repeated layers of a part, the unit that is sharded, compiled and recomputed by itself."""

from __future__ import annotations

from torch import nn


def blocks_of(part: nn.Module) -> list[nn.Module]:
    """The outermost rows of at least two layers of one class, in order. A transformer gives its blocks, a ConvNet its
    stages, a part without such rows nothing. Layers without children are too small to count.
    """
    if isinstance(part, nn.ModuleList | nn.Sequential | nn.ModuleDict):
        children = part.values() if isinstance(part, nn.ModuleDict) else part
        row = [child for child in children if any(True for _ in child.parameters())]
        if len(row) > 1 and len({type(child) for child in row}) == 1 and _is_layer(row[0]):
            return row
    return [block for child in part.children() for block in blocks_of(child)]


def _is_layer(module: nn.Module) -> bool:
    """Whether it can be called and has something inside."""
    return type(module).forward is not nn.Module.forward and any(True for _ in module.children())
