"""Recomputation: gradients to the bit, fewer bytes alive, nothing where no gradient passes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import whole_model
from torch import nn

from ommatidia.core.errors import ConfigError
from ommatidia.models.blocks import blocks
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.train.audit import LiveBytes
from ommatidia.train.compiled import channels_last, compile_blocks
from ommatidia.train.recompute import recompute

DROPOUT = {**whole_model.LANGUAGE, "dropout": 0.2}
DEEP_SVA = {
    "encoders": {name: {"kind": "patches", "patch": side, "image_size": 32} for name, side in (("a", 8), ("b", 4))},
    "fusion": {"kind": "sva", "side": 4, "width": 16, "depth": 1, "heads": 2, "groups": [4]},
    "injection": {"kind": "deep_sva", "count": 2, "start": 0, "stride": 1},
}
DESIGNS: dict[str, dict[str, Any]] = {
    "inline": {},
    "dropout": {"language": DROPOUT},
    "before its blocks": {"injection": {"kind": "cross_attention", "every": 1}},
    "behind its blocks": DEEP_SVA,
}


@pytest.mark.parametrize("design", DESIGNS)
def test_gradients_are_equal_to_the_bit(design: str) -> None:
    model, batch = whole_model.built(**DESIGNS[design])
    names = list(model.state_dict())
    plain = whole_model.gradients(model, batch)
    done = recompute(model.parts(), {"*": "full", "language": "selective"})
    assert done["language"] == 3
    assert whole_model.same(whole_model.gradients(model, batch), plain)
    assert list(model.state_dict()) == names


def alive(kind: str, **fields: Any) -> int:
    """Bytes that the forward pass leaves for the backward one."""
    model, batch = whole_model.built(**fields)
    recompute(model.parts(), {"*": kind})  # type: ignore[dict-item]
    with LiveBytes() as count:
        loss, _ = model.loss(batch)
        held = count.now
        loss.backward()
    return held


def test_each_kind_keeps_fewer_bytes_than_the_one_before() -> None:
    none, selective, full = (alive(kind) for kind in ("none", "selective", "full"))
    assert full < 0.5 * selective < 0.5 * 0.8 * none


def test_a_frozen_part_before_all_that_trains_runs_once() -> None:
    model, batch = whole_model.built({"projector": 1e-3})
    recompute(model.parts(), {"*": "full"})
    calls: dict[str, int] = {}
    for part in ("encoders.b", "language"):
        norm = next(m for m in blocks(model.parts()[part])[0].modules() if "Norm" in type(m).__name__)
        norm.register_forward_hook(lambda *_, part=part: calls.update({part: calls.get(part, 0) + 1}))
    whole_model.gradients(model, batch)
    assert calls == {"encoders.b": 1, "language": 2}  # gradients pass through the frozen decoder to the projector


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.ModuleList(Row() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for row in self.rows:
            x = row(x)
        return x


class Row(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.inner(x))


@pytest.mark.parametrize("kind", ["full", "selective"])
def test_a_batch_norm_counts_a_batch_once(kind: Any) -> None:
    def states(*, dropped: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        stack = Stack()
        if dropped:
            assert recompute({"part": stack}, {"part": kind}) == {"part": 2}
        stack(torch.randn(6, 4, requires_grad=True)).square().sum().backward()
        grads = {f"grad {name}": p.grad for name, p in stack.named_parameters() if p.grad is not None}
        return {**stack.state_dict(), **grads}

    assert whole_model.same(states(dropped=True), states(dropped=False))


def test_what_is_named_in_vain_is_refused() -> None:
    parts = whole_model.built()[0].parts()
    with pytest.raises(ConfigError, match=r"engine.recompute: unknown part 'langauge'; did you mean 'language'\?"):
        recompute(parts, {"langauge": "full"})
    with pytest.raises(
        ConfigError, match=r"engine.recompute: projector has no row of like blocks; parts that have: enc"
    ):
        recompute(parts, {"*": "full", "projector": "full"})
    with pytest.raises(ConfigError, match=r"engine.compile: projector has no row of like blocks"):
        compile_blocks(parts, ["projector"], backend="eager")
    with pytest.raises(ConfigError, match=r"engine.channels_last: unknown part 'encoders.c'"):
        channels_last(parts, ["encoders.c"])
    with pytest.raises(ConfigError, match=r"engine.channels_last: language has no two-dimensional convolution"):
        channels_last(parts, ["language"])


@pytest.mark.parametrize("kind", ["none", "full"])
def test_compiled_blocks_compute_the_same(kind: Any) -> None:
    model, batch = whole_model.built()
    names = list(model.state_dict())
    plain = whole_model.gradients(model, batch)
    recompute(model.parts(), {"language": kind})
    assert compile_blocks(model.parts(), ["language"], backend="aot_eager") == {"language": 3}
    assert list(model.state_dict()) == names
    torch._dynamo.utils.counters.clear()
    found = whole_model.gradients(model, batch)
    assert all(torch.allclose(found[name], tensor, rtol=1e-5, atol=1e-6) for name, tensor in plain.items())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # for three blocks
    assert not torch._dynamo.utils.counters["graph_break"]
    torch._dynamo.reset()


def test_no_compiler_is_said_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"engine.compile: torch.compile needs a C\+\+ compiler"):
        compile_blocks(whole_model.built()[0].parts(), ["language"])


def test_channels_last_changes_the_layout_alone() -> None:
    value = EncoderConfig.kinds()["sam"].tiny()
    encoder, pixels_BCHW = value.build(), torch.rand(1, 3, *value.preprocess().size)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    plain_BHWD = encoder(pixels_BCHW)
    counted = channels_last({"encoders.sam": encoder}, ["encoders.*"])["encoders.sam"]
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert counted == len(convolutions) > 1
    assert all(c.weight.is_contiguous(memory_format=torch.channels_last) for c in convolutions)
    assert whole_model.same(encoder.state_dict(), before)
    assert torch.allclose(encoder(pixels_BCHW), plain_BHWD, rtol=1e-4, atol=1e-5)


def test_blocks_of_the_toys() -> None:
    parts = whole_model.built()[0].parts()
    found = {part: [type(block).__name__ for block in blocks(module)] for part, module in parts.items()}
    assert found == {
        "encoders.a": [], "encoders.b": ["Block"] * 2, "fusion": [], "projector": [], "injection": [],
        "language": ["LlamaDecoderLayer"] * 3,
    }  # fmt: skip
