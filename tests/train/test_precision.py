"""Types that weights are held in, and that no product of a step runs in 32 bits unseen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import train_toy
import whole_model
from torch import nn

from ommatidia.core.errors import ConfigError
from ommatidia.models.model import MLLM
from ommatidia.train.audit import Float32Products
from ommatidia.train.freeze import freeze, load_trained, select, trained_state
from ommatidia.train.optim import optimizer
from ommatidia.train.precision import hold

LOW, WIDE = torch.bfloat16, torch.float32


def held(train: dict[str, float], **fields: Any) -> tuple[MLLM, Any, Any]:
    model, batch = whole_model.built(train)
    value = train_toy.stage(train=train, **({"precision": "bf16"} | fields))
    trained = select(model.parts(), train)
    hold(model.parts(), trained, value)
    return model, batch, trained


def types(module: nn.Module) -> set[torch.dtype]:
    return {parameter.dtype for parameter in module.parameters()}


def test_frozen_weights_in_bfloat16_and_trained_ones_in_float32() -> None:
    model, _, trained = held({"projector": 1e-3, "language:decoder.model.layers.1": 1e-4}, frozen_precision="bf16")
    assert types(model.projector) == {WIDE}
    assert types(model.language.decoder.model.layers[1]) == {WIDE}
    assert types(model.language.decoder.model.layers[0]) == {LOW}
    assert types(model.encoders["b"].trunk) == {LOW}
    assert model.encoders["b"].low
    norms = [child for child in model.encoders["b"].neck.modules() if isinstance(child, nn.LayerNorm)]
    assert {norm.weight.dtype for norm in norms} == {WIDE}  # it may meet float32
    assert model.language.decoder.model.rotary_emb.inv_freq.dtype == WIDE  # angles grow with the position
    head, table = (
        f() for f in (model.language.decoder.get_output_embeddings, model.language.decoder.get_input_embeddings)
    )
    assert head.weight is table.weight  # still tied
    assert {p.dtype for p in trained.parameters(model.parts()).values()} == {WIDE}


def test_a_batch_norm_stays_in_float32() -> None:
    toy, value = train_toy.Toy(), train_toy.stage(precision="bf16", frozen_precision="bf16")
    hold(toy.parts(), select(toy.parts(), value.train), value)
    norm = toy.encoder.trunk[1]
    assert {norm.weight.dtype, norm.running_mean.dtype} == {WIDE}
    assert toy.encoder.trunk[0].weight.dtype == LOW


def test_frozen_matrices_in_bfloat16_change_no_bit_under_autocast() -> None:
    """Autocast rounds a frozen matrix for each product; here it is rounded once."""
    found = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        parts = {"stack": nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8), nn.Linear(8, 8))}
        trained = select(parts, {"stack:0": 1e-3, "stack:3": 1e-3})
        freeze(parts, trained)
        hold(parts, trained, train_toy.stage(precision="bf16", frozen_precision=precision))
        with torch.autocast("cpu", LOW):
            parts["stack"](torch.randn(5, 8)).float().square().sum().backward()
        found.append({name: p.grad for name, p in parts["stack"].named_parameters() if p.grad is not None})
    assert parts["stack"][2].weight.dtype == LOW
    assert whole_model.same(*found)


def test_a_whole_model_stays_near() -> None:
    losses = []
    for fields in ({}, {"frozen_precision": "bf16"}, {"precision": "bf16_pure"}):
        model, batch, _ = held({"projector": 1e-3}, **fields)
        with torch.autocast("cpu", LOW):
            losses.append(model.loss(batch)[0].item())
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=0.02)


def test_bf16_pure_holds_everything_that_trains_in_bfloat16() -> None:
    train = {"projector": 1e-3, "language": 1e-3}
    model, batch, trained = held(train, precision="bf16_pure")
    assert types(model.language) == types(model.projector) == {LOW}
    assert types(model.encoders["b"]) == {WIDE}
    made = optimizer(model.parts(), trained, train_toy.stage(train=train, precision="bf16_pure"))
    with torch.autocast("cpu", LOW):
        loss, count = model.loss(batch)
    (loss / count).backward()
    made.step()
    state = [tensor for slots in made.state.values() for name, tensor in slots.items() if name != "step"]
    assert {tensor.dtype for tensor in state} == {LOW}
    assert {p.grad.dtype for p in model.projector.parameters()} == {LOW}


def test_a_trained_state_keeps_its_type_and_loads_into_any() -> None:
    train = {"projector": 1e-3}
    model, _, trained = held(train, precision="bf16_pure")
    state = trained_state(model.parts(), trained)
    assert {tensor.dtype for tensor in state.values()} == {LOW}
    wide, _ = whole_model.built(train)
    load_trained(wide.parts(), state, trained=trained)
    assert types(wide.projector) == {WIDE}
    assert whole_model.same({n: t.float() for n, t in state.items()}, trained_state(wide.parts(), trained))


def test_weights_that_do_not_fit_the_precision_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"frozen_precision 'bf16' needs a precision of 'bf16' or 'bf16_pure'"):
        train_toy.stage(frozen_precision="bf16")


@pytest.mark.parametrize("fields", [{}, {"frozen_precision": "bf16"}, {"precision": "bf16_pure"}])
def test_no_product_runs_in_32_bits(fields: dict[str, Any]) -> None:
    train = {"projector": 1e-3, "language": 1e-3, "encoders.b:neck": 1e-3}
    model, batch, _ = held(train, **fields)
    with Float32Products() as audit:
        with torch.autocast("cpu", LOW):
            loss, _ = model.loss(batch)
        loss.backward()
    assert audit.seen > 50
    assert not audit.found


def test_the_audit_finds_a_product_in_32_bits() -> None:
    model, _ = whole_model.built()
    with Float32Products() as audit, torch.autocast("cpu", LOW), torch.autocast("cpu", enabled=False):
        model.projector(torch.zeros(1, 2, 2, model.projector[0].in_features))
    assert sum(audit.found.values()) == 2
    assert all(where.endswith(": aten::addmm") for where in audit.found)
