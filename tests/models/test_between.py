"""Changing what passes between blocks: exact, undone afterwards, and right where blocks are checkpointed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ommatidia.models.between import behind


class Double(nn.Module):
    """2x, with a flag as some decoders ask their blocks for, and a second output if ``pair``."""

    kind = "sliding"

    def __init__(self, *, pair: bool = False) -> None:
        super().__init__()
        self.weight, self.pair = nn.Parameter(torch.tensor(2.0)), pair

    def forward(self, x: Tensor, *, extra: float = 0.0) -> Any:
        y = self.weight * x + extra
        return (y, "cache") if self.pair else y


class Checkpointed(Double):
    """A block that is run again in the backward pass, hooks and all."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return checkpoint(super().__call__, *args, use_reentrant=False, **options)


def test_changes_stand_behind_their_blocks_and_are_gone_afterwards() -> None:
    blocks = nn.ModuleList([Double(), Double(pair=True), Double()])
    originals, state = list(blocks), dict(blocks.state_dict())
    with behind(blocks, {0: lambda x: x + 1, 1: lambda x: x * 10}):
        assert blocks[0](torch.tensor(3.0), extra=1.0) == 8
        assert blocks[1](torch.tensor(3.0)) == (60, "cache")
        assert (blocks[0].kind, blocks[0].pair) == ("sliding", False)
        with pytest.raises(AttributeError):
            _ = blocks[0].colour
    assert list(blocks) == originals
    assert blocks.state_dict().keys() == state.keys()
    with pytest.raises(IndexError), behind(blocks, {0: lambda x: x, 7: lambda x: x}):
        pass
    with pytest.raises(ZeroDivisionError), behind(blocks, {0: lambda x: x / (1 // 0)}):
        blocks[0](torch.tensor(1.0))
    assert list(blocks) == originals


def test_the_backward_pass_of_a_checkpoint_sees_the_change() -> None:
    for kind in (Double, Checkpointed):
        blocks, gain = nn.Sequential(kind(), kind()), nn.Parameter(torch.tensor(3.0))
        x = torch.tensor(5.0, requires_grad=True)
        with behind(blocks, {0: lambda y, gain=gain: gain * y * y}):
            y = blocks(x)
        y.backward()
        # y = w1 * gain * (w0 x)^2
        assert y == 600
        assert gain.grad == 200
        assert [block.weight.grad.item() for block in blocks] == [600, 300]
        assert x.grad == 240
