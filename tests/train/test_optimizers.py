"""AdamW in 8 bits beside AdamW, Adafactor, the average of weights, and that all of them go on exactly."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import train_toy
import whole_model
from torch import Tensor, nn

from ommatidia.core.errors import RunError
from ommatidia.train.eight_bit import BLOCK, AdamW8bit, decode, encode, rounded
from ommatidia.train.ema import Average
from ommatidia.train.freeze import select
from ommatidia.train.optim import optimizer, schedule


@pytest.mark.parametrize("signed", [True, False])
def test_codes_keep_small_numbers_beside_large_ones(signed: bool) -> None:
    torch.manual_seed(0)
    given = torch.randn(3, 1000) * torch.logspace(-5, 0, 1000)
    given = given if signed else given.square()
    codes, scale = encode(given.clone(), signed=signed)
    assert (codes.dtype, codes.shape, scale.shape) == (torch.int8 if signed else torch.uint8, (3, 1000), (3, 4))
    back = decode(codes, scale)
    error = ((back - given) / given).abs()
    assert error.median() < 0.02
    assert error.max() < 0.15
    again, _ = encode(back.clone(), signed=signed)
    assert torch.equal(again, codes)


def test_codes_of_nothing_and_of_almost_nothing() -> None:
    zeros, scale = encode(torch.zeros(2, 300), signed=False)
    assert not decode(zeros, scale).any()
    tiny = torch.zeros(1, BLOCK)
    tiny[0, :2] = torch.tensor([1.0, 1e-30])
    codes, scale = encode(tiny, signed=False)
    assert codes[0, :3].tolist() == [255, 1, 0]  # a square above 0 is never divided by as if it were 0


def fitted(make: Any, steps: int = 150) -> tuple[list[float], torch.optim.Optimizer, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 512), nn.GELU(), nn.Linear(512, 32))
    x, target = torch.randn(256, 64), torch.tanh(torch.randn(256, 32) @ torch.randn(32, 32) / 6)
    made, losses = make(model.parameters()), []
    for _ in range(steps):
        made.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        made.step()
        losses.append(loss.item())
    return losses, made, model


def test_eight_bits_track_adamw() -> None:
    options: dict[str, Any] = {"lr": 2e-3, "betas": (0.9, 0.99)}
    wanted, _, _ = fitted(lambda p: torch.optim.AdamW(p, weight_decay=0.0, **options))
    found, made, model = fitted(lambda p: AdamW8bit(p, **options))
    assert wanted[-1] < 0.2 * wanted[0]
    assert found == pytest.approx(wanted, abs=0.01 * wanted[0])
    held = sum(t.nbytes for name, t in made.state[model[2].weight].items() if name != "step")
    assert held / model[2].weight.numel() == 2 + 8 / BLOCK


def test_the_first_step_is_adamws_to_rounding() -> None:
    """Moments are exact until they are stored: the first update is AdamW's, decay and all."""
    torch.manual_seed(0)
    weight, gradient = torch.randn(80, 70), torch.randn(80, 70)
    results = []
    for make in (torch.optim.AdamW, AdamW8bit):
        parameter = nn.Parameter(weight.clone())
        parameter.grad = gradient.clone()
        made = make([{"params": [parameter], "lr": 1e-2, "weight_decay": 0.1}])
        made.step()
        results.append(parameter.detach())
    assert torch.allclose(*results, rtol=1e-5, atol=1e-7)


def test_any_memory_layout_and_any_size() -> None:
    torch.manual_seed(0)
    weight, gradient = torch.randn(7, 8, 9, 11), torch.randn(7, 8, 9, 11)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter = nn.Parameter(weight.clone().to(memory_format=layout))
        parameter.grad = gradient.to(memory_format=layout)
        AdamW8bit([parameter], lr=1e-2).step()
        results.append(parameter.detach())
    assert torch.allclose(*results, rtol=1e-5)


def test_rounding_at_random_keeps_the_mean() -> None:
    torch.manual_seed(0)
    values = torch.full((200_000,), 1.001)
    for sign in (1, -1):
        found = rounded(sign * values)
        assert set(found.abs().tolist()) == {1.0, 1.0078125}
        assert found.float().mean().item() == pytest.approx(sign * 1.001, abs=1e-4)
    exact = torch.tensor([1.0, -0.5, 0.0])
    assert torch.equal(rounded(exact).float(), exact)


def test_small_updates_reach_a_bfloat16_weight_on_average() -> None:
    parameter = nn.Parameter(torch.ones(16, 256, dtype=torch.bfloat16))
    made = AdamW8bit([parameter], lr=1e-4)
    torch.manual_seed(0)
    for _ in range(20):
        parameter.grad = torch.ones_like(parameter)
        made.step()
    assert parameter.float().mean().item() == pytest.approx(1 - 20 * 1e-4, abs=3e-4)  # rounded to nearest: 1


def test_the_rate_falls_to_a_share_of_its_peak() -> None:
    for shape in ("cosine", "linear"):
        factors = [schedule(s, total=10, warmup=0.0, shape=shape, final=0.1) for s in range(11)]  # type: ignore[arg-type]
        assert factors[0] == 1.0
        assert factors[5] == pytest.approx(0.55)
        assert factors[10] == pytest.approx(0.1)
    assert schedule(5, total=10, warmup=0.0, shape="constant", final=0.1) == 1.0


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "adafactor"])
@pytest.mark.parametrize("ema", [None, 0.8])
def test_a_stopped_run_goes_on_exactly(tmp_path: Path, name: str, ema: float | None) -> None:
    value = train_toy.stage(optimizer=name, ema=ema, save_every=4, final_rate=0.1)
    straight = train_toy.trainer(train_toy.Toy(dropout=0.1), tmp_path / "straight", value)
    report = straight.fit()
    assert report.loss is not None
    first = train_toy.trainer(
        train_toy.Toy(dropout=0.1), tmp_path / "halves", value, batches=lambda s: islice(train_toy.batches(s), 6)
    )
    with pytest.raises(RunError, match="the data ended"):
        first.fit()
    second = train_toy.trainer(train_toy.Toy(dropout=0.1), tmp_path / "halves", value)
    assert second.fit().resumed == 4
    assert whole_model.same(second.result(), straight.result())


def test_adafactor_keeps_a_row_and_a_column() -> None:
    parts = train_toy.Toy().parts()
    value = train_toy.stage(optimizer="adafactor", train={"projector": 1e-2})
    made = optimizer(parts, select(parts, value.train), value)
    for parameter in parts["projector"].parameters():
        parameter.grad = torch.ones_like(parameter)
    made.step()
    numbers = sum(t.numel() for slots in made.state.values() for name, t in slots.items() if name != "step")
    assert numbers == (8 + 8) + 8


def test_the_average_is_the_stages_result(tmp_path: Path) -> None:
    value = train_toy.stage(ema=0.75, steps=3, optimizer="adamw")
    run = train_toy.trainer(train_toy.Toy(), tmp_path, value)
    seen: list[dict[str, Tensor]] = [{n: p.detach().clone() for n, p in run.trained.parameters(run.parts).items()}]
    for examples in islice(train_toy.batches(0), 3):
        run.step(examples)
        seen.append({n: p.detach().clone() for n, p in run.trained.parameters(run.parts).items()})
    result = run.result()
    for name in seen[0]:
        wanted = seen[0][name]
        for later in seen[1:]:
            wanted = 0.75 * wanted + 0.25 * later[name]
        assert torch.allclose(result[name], wanted, atol=1e-7)
        assert torch.equal(run.trained.parameters(run.parts)[name], seen[-1][name])  # training goes on from its own


def test_an_average_is_not_made_up_when_a_checkpoint_has_none() -> None:
    with pytest.raises(RunError, match=r"no average of 'a:w'; it was made by a stage without ema"):
        Average({"a:w": nn.Parameter(torch.ones(2))}, 0.9).load({"exp_avg/a:w": torch.ones(2)})
