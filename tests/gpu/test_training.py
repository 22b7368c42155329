"""Training on the device: the losses of the CPU, bf16 beside fp32, and resumption."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import lab_toys
import pytest
import torch
from train_toy import Toy, batches, stage, trainer

from ommatidia.core.console import Console, use
from ommatidia.core.errors import RunError
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan
from ommatidia.models.quantized import QuantizedLinear
from ommatidia.train.metrics import FILE, read_metrics

pytestmark = pytest.mark.gpu


def losses(folder: Path) -> list[float]:
    return [report.loss for report in read_metrics(folder / FILE)]


def test_the_losses_are_those_of_the_cpu(tmp_path: Path) -> None:
    trainer(Toy(), tmp_path / "here").fit()
    trainer(Toy(), tmp_path / "there", device="cuda").fit()
    assert losses(tmp_path / "there") == pytest.approx(losses(tmp_path / "here"), rel=1e-4)


def test_bf16_stays_near(tmp_path: Path) -> None:
    trainer(Toy(), tmp_path / "fp32", device="cuda").fit()
    trainer(Toy(), tmp_path / "bf16", stage(precision="bf16"), device="cuda").fit()
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "fp32"), rel=0.03)


def test_a_resumed_run_ends_where_the_straight_one_does(tmp_path: Path) -> None:
    straight = trainer(Toy(dropout=0.2), tmp_path / "straight", device="cuda")
    straight.fit()
    interrupted = trainer(
        Toy(dropout=0.2),
        tmp_path / "halves",
        stage(save_every=6),
        device="cuda",
        batches=lambda start: islice(batches(start), 7 - start),
    )
    with pytest.raises(RunError, match="the data ended"):
        interrupted.fit()
    second = trainer(Toy(dropout=0.2), tmp_path / "halves", stage(save_every=6), device="cuda")
    report = second.fit()
    assert report.resumed == 6
    wanted = straight.result()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in second.result().items())


def test_a_recipe_is_trained_and_asked_on_the_device(tmp_path: Path) -> None:
    plan, store = Plan.of([lab_toys.recipe("coarse", "vit", device="cuda")]), Store(tmp_path)
    with use(Console(quiet=True)), store.writing():
        result = execute(plan, store)
    assert result.failed == {}
    assert {plan.jobs[key].kind for key in result.executed} >= {"training", "prediction"}


PURE, EIGHT = {"precision": "bf16_pure"}, {"precision": "bf16", "optimizer": "adamw_8bit"}


@pytest.mark.parametrize("fields", [PURE, EIGHT])
def test_memory_options_stay_near(tmp_path: Path, fields: dict[str, Any]) -> None:
    trainer(Toy(), tmp_path / "fp32", device="cuda").fit()
    trainer(Toy(), tmp_path / "other", stage(**fields), device="cuda").fit()
    assert losses(tmp_path / "other") == pytest.approx(losses(tmp_path / "fp32"), rel=0.05)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantised_matrix_is_that_of_the_cpu(quantize: Any) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 64)
    here, there = QuantizedLinear(linear, quantize), QuantizedLinear(linear, quantize).to("cuda")
    assert torch.allclose(there.weight.cpu(), here.weight, rtol=1e-6, atol=0)
    if quantize == "nf4":
        assert torch.equal(there.weight.cpu(), here.weight)
        assert torch.equal(QuantizedLinear(linear.to("cuda"), quantize).codes.cpu(), here.codes)
    x = torch.randn(3, 128)
    assert torch.allclose(there(x.cuda()).cpu(), here(x), rtol=1e-4, atol=1e-5)
