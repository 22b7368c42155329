"""The chunked loss: values and gradients of the plain one, through every head, with few logits alive."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_toys import SCRATCH, config, mixed_samples, parts_of
from torch import Tensor, nn

from ommatidia.models.linear_cross_entropy import cross_entropy_sum, linear_cross_entropy
from ommatidia.models.model import MLLM
from ommatidia.train.audit import LiveBytes

S, E, V = 23, 16, 501


def drawn(dtype: torch.dtype = torch.float32, *, head: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    h_SE = torch.randn(S, E, dtype=dtype, requires_grad=True)
    return h_SE, torch.randn(V, E, dtype=dtype, requires_grad=head), torch.randint(0, V, (S,))


def grads(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss / 7, leaves))


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
def test_values_and_gradients_are_the_plain_ones(chunk: int) -> None:
    h_SE, weight_VE, targets_S = drawn(torch.float64)
    plain = cross_entropy_sum((h_SE @ weight_VE.T).double(), targets_S)
    h2_SE, weight2_VE, _ = drawn(torch.float32)
    loss = linear_cross_entropy(h2_SE, weight2_VE, targets_S, chunk=chunk)
    exact = nn.functional.cross_entropy(h2_SE.double() @ weight2_VE.double().T, targets_S, reduction="sum")
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    assert loss.dtype == torch.float32
    assert plain.isfinite()
    for found, wanted in zip(grads(loss, h2_SE, weight2_VE), grads(exact, h2_SE, weight2_VE), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_frozen_head_gets_no_gradient_and_a_second_backward_is_refused() -> None:
    h_SE, weight_VE, targets_S = drawn(head=False)
    loss = linear_cross_entropy(h_SE, weight_VE, targets_S, chunk=4)
    loss.backward(retain_graph=True)
    assert weight_VE.grad is None
    assert h_SE.grad is not None
    with pytest.raises(RuntimeError, match="a second backward pass"):
        loss.backward()


def test_under_autocast_it_rounds_where_the_plain_one_does() -> None:
    h_SE, weight_VE, targets_S = drawn()
    with torch.autocast("cpu", torch.bfloat16):
        plain = cross_entropy_sum(h_SE @ weight_VE.T, targets_S)
        loss = linear_cross_entropy(h_SE, weight_VE, targets_S, chunk=6)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    found, wanted = (grads(value, h_SE, weight_VE) for value in (loss, plain))
    assert [g.dtype for g in found] == [torch.float32] * 2
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=2e-2, atol=2e-2)


def test_bytes_alive_do_not_grow_with_the_positions() -> None:
    positions, chunk, vocabulary = 512, 8, 4096
    torch.manual_seed(0)
    weight_VE, targets_S = torch.randn(vocabulary, 4, requires_grad=True), torch.randint(0, vocabulary, (positions,))

    def peak(run: Any) -> int:
        h_SE = torch.randn(positions, 4, requires_grad=True)
        with LiveBytes() as count:
            run(h_SE).backward()
        return count.peak

    logits = positions * vocabulary * 4
    assert peak(lambda h_SE: cross_entropy_sum(h_SE @ weight_VE.T, targets_S)) > 2 * logits
    assert peak(lambda h_SE: linear_cross_entropy(h_SE, weight_VE, targets_S, chunk=chunk)) < 0.1 * logits


@pytest.mark.parametrize("scaling", ["", "logit_scale", "logits_scaling", "final_logit_softcapping"])
@pytest.mark.parametrize("frozen", [False, True])
def test_every_head_of_a_whole_model(scaling: str, frozen: bool) -> None:
    model, processor = parts_of(config("a", language=SCRATCH))
    if scaling:
        setattr(model.language.decoder.config, scaling, 3.0)
    batch = processor.collate([processor(sample) for sample in mixed_samples()])
    model.language.requires_grad_(not frozen)

    def run(model: MLLM, chunk: int | None) -> tuple[float, dict[str, Tensor]]:
        model.zero_grad(set_to_none=True)
        model.language.chunk = chunk
        loss, count = model.loss(batch)
        (loss / count).backward()
        return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    wanted_loss, wanted = run(model, None)
    loss, found = run(model, 3)
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert found.keys() == wanted.keys()
    assert ("language.decoder.model.embed_tokens.weight" in found) is not frozen  # tied: both of its uses add up
    assert all(torch.allclose(found[name], tensor, rtol=1e-4, atol=1e-5) for name, tensor in wanted.items())
    with torch.no_grad():
        assert model.loss(batch)[0].item() == pytest.approx(wanted_loss, rel=1e-6)
