"""Changing what passes from one block of a network to the next, without changing the network.

The block is replaced by one that runs it and then the change, for as long as the context lasts. A hook would not do:
where the block is checkpointed, a hook may run inside of it, and is gone when the backward pass runs it again.
Shapes: B batch, N tokens, D channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


class _Behind(nn.Module):
    """A block and what happens behind it. Everything else one may ask of the block, it answers itself."""

    def __init__(self, block: nn.Module, change: Change) -> None:
        super().__init__()
        self.block = block
        object.__setattr__(self, "change", change)  # a module inside it belongs to another part

    def forward(self, *args: Any, **options: Any) -> Any:
        out = self.block(*args, **options)
        if isinstance(out, tuple):
            return (self.change(out[0]), *out[1:])
        return self.change(out)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)


@contextlib.contextmanager
def behind(blocks: nn.ModuleList | nn.Sequential, changes: Mapping[int, Change]) -> Iterator[None]:
    """Inside the context, what leaves the numbered blocks (x_BND, or the first of several outputs) is changed."""
    originals = {index: blocks[index] for index in changes}
    try:
        for index, change in changes.items():
            blocks[index] = _Behind(blocks[index], change)
        yield
    finally:
        for index, block in originals.items():
            blocks[index] = block
