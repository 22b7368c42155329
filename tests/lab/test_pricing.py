"""Prices before anything runs: operations and memory by the reference's anchors, shards, and what to change to fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ommatidia.core.config import override
from ommatidia.core.errors import ConfigError
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.gpu_memory import changes, smaller
from ommatidia.lab.price.hardware import HARDWARE, Machine, machine_named
from ommatidia.lab.recipe import Recipe, read
from ommatidia.lab.show.describe import describe_plan
from ommatidia.lab.show.pricing import StagePrice, price_tables, stage_prices


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder: no data, no tokenizer, no weights."""
    monkeypatch.chdir(tmp_path)


def study(reference: str = "eagle:x5_7b", **paths: Any) -> Recipe:
    recipe: Recipe = read(f"ommatidia.recipes.{reference}", Recipe)
    for path, value in paths.items():
        recipe = override(recipe, f"stages.-1.{path}".replace("-1", str(len(recipe.stages) - 1)), value)
    return recipe


def tune(**paths: Any) -> StagePrice:
    return stage_prices(study(**paths))[-1]


def h100(world: int = 1, mfu: float = 0.4) -> Machine:
    machine = machine_named("h100", world=world, mfu=mfu)
    assert machine is not None
    return machine


def test_tuning_eagle_x5_takes_what_the_reference_says() -> None:
    """99.3 TFLOP a sample with logits everywhere, 125 H100-hours at 40 %; 145 GB of weights, gradients and AdamW."""
    price = tune()
    assert price.samples == 1_809_024  # 1,809,000 in whole batches of 128
    assert price.flops / 1e12 == pytest.approx(99.3, rel=0.015)
    seconds = price.seconds(h100(8))
    assert seconds is not None
    assert seconds * 8 / 3600 == pytest.approx(125, rel=0.01)
    assert price.seconds(h100(16, 0.2)) == seconds
    memory = price.memory(1)
    assert (memory.weights + memory.gradients + memory.optimizer) / 1e9 == pytest.approx(145, rel=0.002)


def test_pre_aligning_takes_what_the_reference_says_of_each_expert() -> None:
    found = {p.name.removeprefix("pre-align: "): p.flops / 1e12 for p in stage_prices(study()) if ":" in p.name}
    told = {"clip": 36.9, "pix2struct": 42.2, "sam": 43.6, "eva02_det": 44.0, "convnext": 53.7}
    assert found == pytest.approx(told, rel=0.02)


def test_shards_divide_what_is_held_and_not_what_a_pass_keeps() -> None:
    whole, ranks = tune(micro_batch=1), 8
    fsdp = tune(micro_batch=1, engine={"parallel": "fsdp"})
    hsdp = tune(micro_batch=1, engine={"parallel": "hsdp", "replicas": 2})
    for kind in ("weights", "gradients", "optimizer"):
        full = getattr(whole.memory(ranks), kind)
        assert getattr(fsdp.memory(ranks), kind) == pytest.approx(full / 8)
        assert getattr(hsdp.memory(ranks), kind) == pytest.approx(full / 4)
    assert fsdp.memory(ranks).activations == whole.memory(ranks).activations
    assert fsdp.memory(ranks).copies < 0.1 * whole.memory(ranks).copies


@pytest.mark.parametrize(
    ("paths", "kind", "bytes_each"),
    [
        ({}, "weights", 4), ({}, "gradients", 4), ({}, "optimizer", 8),
        ({"precision": "bf16_pure"}, "weights", 2), ({"precision": "bf16_pure"}, "gradients", 2),
        ({"precision": "bf16_pure"}, "optimizer", 4), ({"optimizer": "adamw_8bit"}, "optimizer", 2 + 8 / 256),
        ({"optimizer": "adafactor"}, "optimizer", 8 / 4096), ({"ema": 0.999}, "optimizer", 12),
    ],
)  # fmt: skip
def test_bytes_of_a_trained_parameter(paths: dict[str, Any], kind: str, bytes_each: float) -> None:
    price = tune(**paths)
    assert price.held.frozen == 0
    assert getattr(price.memory(1), kind) == pytest.approx(bytes_each * price.held.trained)


def test_frozen_weights_are_held_as_the_stage_says() -> None:
    thin = stage_prices(study("llava:v15_7b", frozen_precision="bf16"))[-1]
    held = thin.held
    assert thin.memory(1).weights == 4 * held.trained + 2 * held.frozen


def test_what_a_pass_keeps_of_the_decoder() -> None:
    """LLaVA-1.5 trains no encoder: 34 bytes of 4096 channels in 32 blocks at 576 + 256 positions, and the projector."""
    price = stage_prices(study("llava:v15_7b", micro_batch=1))[-1]
    kept = 34 * 4096 * 32 * (576 + 256)
    assert price.memory(1).activations == pytest.approx(kept, rel=0.01)
    full = stage_prices(study("llava:v15_7b", micro_batch=1, engine={"recompute": {"*": "full"}}))[-1]
    assert full.memory(1).activations == pytest.approx(kept * (2 / 34 + 1 / 32), rel=0.03)
    assert full.flops - price.flops == pytest.approx(price.costs["language"].flops + price.costs["projector"].flops)
    packed = stage_prices(study("llava:v15_7b", engine={"packing": {"tokens": 4 * 832}}))[-1]
    assert packed.memory(1).activations == pytest.approx(4 * price.memory(1).activations)


def test_logits_are_those_of_supervised_positions_or_of_a_chunk() -> None:
    assert tune(micro_batch=2).memory(1).logits == 10 * 32_000 * 2 * 64
    assert tune(micro_batch=2, engine={"chunk": 32}).memory(1).logits == 10 * 32_000 * 32


def test_what_does_not_fit_says_what_to_change_and_then_fits() -> None:
    assert tune().fits(h100(8)) == "with fsdp over 8, micro_batch 2"
    fitting = tune(micro_batch=2, engine={"parallel": "fsdp"})
    assert fitting.fits(h100(8)) == "yes"
    assert fitting.memory(8).total < 0.94 * HARDWARE["h100"].memory
    larger = tune(micro_batch=4, engine={"parallel": "fsdp"})
    assert larger.memory(8).total > 0.94 * HARDWARE["h100"].memory
    small = machine_named("tpu-v4", world=1)
    assert small is not None
    assert stage_prices(study("nvlm:d_72b"))[-1].fits(small).startswith("with fsdp over 64")


def test_changes_begin_with_none_and_touch_frozen_weights_only_where_there_are_any() -> None:
    stage = study().stages[-1]
    words = [word for word, _ in changes(stage, 4, frozen=False)]
    assert words[:3] == ["", "recompute full", "fsdp over 4"]
    assert not any("frozen" in word for word in words)
    assert any("frozen" in word for word, _ in changes(stage, 1, frozen=True))
    assert {one.batch % (one.micro_batch or 1) for one in smaller(stage, 3)} == {0}


def test_a_plan_without_data_prices_every_training_once(tmp_path: Path) -> None:
    (plan, price, total), summary, _ = describe_plan(study(), Store(tmp_path / "none"), h100(8))
    assert [row[2].partition(": ")[0] for row in plan[2]] == ["pre-align"] * 5 + ["align", "tune"]
    assert {row[-1] for row in plan[2]} == {"assumed"}
    assert summary["assumed"].startswith("no data at data/Eagle/eagle-1-sft-1_8M.json: samples as published")
    assert [row[0] for row in price[2]] == [f"pre-align: {n}" for n in study().model.encoders] + ["align", "tune"]
    assert dict(total[2])["GPU-hours"] == "421"


def test_two_designs_pay_for_a_shared_stage_once() -> None:
    one = study()
    other = override(one, "stages.2.train.language", 1e-5)
    _, alone = price_tables([one], h100())
    _, both = price_tables([one, other], h100())
    added = float(str(both["GPU-hours"])) - float(str(alone["GPU-hours"]))
    assert added == pytest.approx(125, abs=1.5)


def test_hardware_that_does_not_exist() -> None:
    assert machine_named(None) is None
    with pytest.raises(ConfigError, match=r"--hardware: unknown accelerator 'h10'; did you mean 'h100'"):
        machine_named("h10")
    with pytest.raises(ConfigError, match="--world: expected at least 1 accelerator, got 0"):
        machine_named("h100", world=0)
    with pytest.raises(ConfigError, match="--mfu: expected a share of the peak above 0 and at most 1, got 40"):
        machine_named("h100", mfu=40)
