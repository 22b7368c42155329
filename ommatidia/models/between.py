"""Changing what passes from one block of a network to the next, without changing the network.

For as long as a context lasts, a block's place in its list is taken by a module that runs the block and the change. A
hook would not do: where the block is checkpointed, a hook may run inside of it, and is gone when the backward pass runs
it again; here the change stands outside what is recomputed.
Shapes: B batch, N tokens, D channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]
"""x_BND to x_BND."""

BlockEdits = Mapping[int, Change]
"""By number of a block: what the features become behind it."""


class _Changed(nn.Module):
    """A block with a change beside it. Everything else one may ask of the block, it answers itself."""

    change: Change

    def __init__(self, block: nn.Module, change: Change) -> None:
        super().__init__()
        self.block = block
        object.__setattr__(self, "change", change)  # a module inside it belongs to another part

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)


class _Before(_Changed):
    def forward(self, hidden_states: Tensor, *args: Any, **options: Any) -> Any:
        return self.block(self.change(hidden_states), *args, **options)


class _Behind(_Changed):
    def forward(self, *args: Any, **options: Any) -> Any:
        out = self.block(*args, **options)
        if isinstance(out, tuple):
            return (self.change(out[0]), *out[1:])
        return self.change(out)


Blocks = nn.ModuleList | nn.Sequential


def before(blocks: Blocks, changes: Mapping[int, Change]) -> contextlib.AbstractContextManager[None]:
    """Inside the context, what goes into the numbered blocks (their first argument) is changed."""
    return _replaced(blocks, changes, _Before)


def behind(blocks: Blocks, changes: Mapping[int, Change]) -> contextlib.AbstractContextManager[None]:
    """Inside the context, what leaves the numbered blocks (their output, or the first of several) is changed."""
    return _replaced(blocks, changes, _Behind)


@contextlib.contextmanager
def _replaced(blocks: Blocks, changes: Mapping[int, Change], kind: type[_Changed]) -> Iterator[None]:
    originals = {index: blocks[index] for index in changes}
    try:
        for index, change in changes.items():
            blocks[index] = kind(blocks[index], change)
        yield
    finally:
        for index, block in originals.items():
            blocks[index] = block
