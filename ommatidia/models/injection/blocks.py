"""Layers before the blocks of a decoder that somebody else has written, for as long as a context lasts.

Each block's place in the decoder's list is taken by a module that runs the layer and then the block. A hook on the
block would do in a plain pass, but where the decoder recomputes its blocks to save memory (gradient checkpointing) the
recomputation happens after the context, without the hook; here the layer stands outside what is recomputed.

Shapes: B batch, T tokens, E language width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ommatidia.models.language.language import LanguageModel

Layer = Callable[[Tensor], Tensor]
"""x_BTE to x_BTE."""


class _Preceded(nn.Module):
    """A block with a layer before it. For everything else the decoder asks of it, it is the block."""

    layer: Layer

    def __init__(self, layer: Layer, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        object.__setattr__(self, "layer", layer)  # a module inside it belongs to another part

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.block(self.layer(hidden_states), *args, **kwargs)


@contextlib.contextmanager
def before_blocks(language: LanguageModel, layers: Mapping[int, Layer]) -> Iterator[None]:
    """Inside it, each layer changes the hidden states on their way into the block of that number."""
    blocks = language.blocks
    plain = {place: blocks[place] for place in layers}
    try:
        for place, layer in layers.items():
            blocks[place] = _Preceded(layer, plain[place])
        yield
    finally:
        for place, block in plain.items():
            blocks[place] = block
