"""LoRA on any part: the start, what trains, save and load, merging, 4 and 8 bits, keys, prices, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_toys import SCRATCH, config, lively, mixed_samples
from safetensors.torch import load_file
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.types import Batch
from ommatidia.models.adapters import is_adapter, merge
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.cost import cost_by_part
from ommatidia.models.model import MLLM
from ommatidia.models.pretrained import load, save
from ommatidia.models.processor import Processor
from ommatidia.models.published.exporting import export_checkpoint
from ommatidia.models.quantized import QuantizedLinear
from ommatidia.train.audit import Float32Products
from ommatidia.train.freeze import freeze, select, trained_state

BOTH: dict[str, Any] = {"language": {"rank": 4}, "encoders.b": {"rank": 2, "alpha": 3.0}}


def value(adapters: dict[str, Any]) -> MLLMConfig:
    return config("a", "b", language=SCRATCH, adapters=adapters)


def batch_for(value: MLLMConfig) -> Batch:
    processor = Processor(value)
    return processor.collate([processor(sample) for sample in mixed_samples()])


def stirred(value: MLLMConfig) -> MLLM:
    """Built, with adapters that do something."""
    model = build_model(value, seed=0).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model


@pytest.mark.parametrize(
    "adapter", [{"rank": 4}, {"rank": 4, "rslora": True, "dropout": 0.1}, {"rank": 2, "targets": ["q_proj", "v_proj"]}]
)
def test_the_start_is_the_model_itself(adapter: dict[str, Any]) -> None:
    plain, adapted = build_model(value({}), seed=0).eval(), build_model(value({"language": adapter}), seed=0).eval()
    batch = batch_for(value({}))
    assert torch.equal(adapted(batch), plain(batch))
    assert sum(is_adapter(name) for name, _ in adapted.named_parameters()) > 0
    beside = {name: tensor for name, tensor in adapted.state_dict().items() if not is_adapter(name)}
    assert [name.replace(".base_layer", "") for name in beside] == list(plain.state_dict())


def test_a_part_named_alone_trains_its_adapters() -> None:
    model = lively(build_model(value(BOTH), seed=0))
    parts = model.parts()
    trained = select(parts, {"language": 1e-3, "encoders.b": 1e-4})
    names = set(trained.rates)
    assert {name for name in names if name.startswith("language:")} == {
        f"language:{name}" for name, _ in model.language.named_parameters() if is_adapter(name)
    }
    assert {n for n in names if n.startswith("encoders.b:") and not is_adapter(n)} == {
        f"encoders.b:neck.{name}" for name, _ in model.encoders["b"].neck.named_parameters()
    }
    freeze(parts, trained)
    batch = batch_for(value(BOTH))
    model.loss(batch)[0].backward()
    assert all((p.grad is not None) == p.requires_grad for n, p in model.language.named_parameters() if "lora_B" in n)
    assert select(parts, {"language:*lora*": 1e-3}).rates.keys() == select(parts, {"language": 1e-3}).rates.keys()
    head = select(parts, {"language": 1e-3, "language:decoder.model.norm": 1e-5}).rates
    assert head["language:decoder.model.norm.weight"] == 1e-5
    everything = select(parts, {"language:*": 1e-3}).rates
    assert len(everything) == len(list(model.language.named_parameters()))


@pytest.mark.parametrize("quantize", ["none", "nf4", "int8"])
def test_a_saved_folder_gives_the_same_outputs(tmp_path: Path, quantize: str) -> None:
    adapters = {part: {**fields, "quantize": quantize} for part, fields in BOTH.items()}
    model, batch = stirred(value(adapters)), batch_for(value(adapters))
    wanted = model(batch)
    assert torch.equal(model.train().eval()(batch), wanted)
    save(model, value(adapters), tmp_path / "model")
    loaded = load(tmp_path / "model")[0]
    assert torch.equal(loaded(batch), wanted)
    save(loaded, value(adapters), tmp_path / "again")
    assert torch.equal(load(tmp_path / "again")[0](batch), wanted)
    names = load_file(tmp_path / "model" / "model.safetensors")
    plain = build_model(value({}), seed=0).state_dict()
    assert {name for name in names if not is_adapter(name)} <= plain.keys()  # tied ones once
    assert all(names[name].shape == plain[name].shape for name in names if not is_adapter(name))


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_quantised_matrices_take_few_bytes_and_pass_gradients(quantize: Any) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(128, 64)
    held = QuantizedLinear(linear, quantize)
    size = sum(buffer.nbytes for name, buffer in held.named_buffers() if name != "bias")
    assert size / linear.weight.numel() == {"nf4": 0.5 + 4 / 64, "int8": 1 + 4 / 128}[quantize]
    error = (held.weight - linear.weight).abs().max() / linear.weight.abs().max()
    assert error < {"nf4": 0.2, "int8": 0.005}[quantize]
    again = QuantizedLinear(held.linear(), quantize)
    assert torch.equal(again.codes, held.codes)
    assert torch.equal(again.weight, held.weight)
    x = torch.randn(3, 128, requires_grad=True)
    gradient = torch.autograd.grad(held(x).square().sum(), x)[0]
    wanted = torch.autograd.grad(held.linear()(x).square().sum(), x)[0]
    assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_merged_it_is_one_model_without_adapters(tmp_path: Path, quantize: str) -> None:
    adapters = {part: {**fields, "quantize": quantize} for part, fields in BOTH.items()}
    model, batch = stirred(value(adapters)), batch_for(value(adapters))
    wanted = model(batch)
    save(model, value(adapters), tmp_path / "model")
    done = export_checkpoint(tmp_path / "model", tmp_path / "out")
    assert done.architecture == "OmmatidiaModel"
    merged, processor = load(tmp_path / "out")
    assert processor.config.adapters == {}
    assert list(merged.state_dict()) == list(build_model(value({}), seed=0).state_dict())
    assert torch.allclose(merged(batch), wanted, rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_dora_starts_and_reloads_as_well(tmp_path: Path) -> None:
    adapters = {"language": {"rank": 2, "dora": True}}
    model, batch = build_model(value(adapters), seed=0).eval(), batch_for(value(adapters))
    assert torch.allclose(model(batch), build_model(value({}), seed=0).eval()(batch), atol=1e-5)
    trained = select(model.parts(), {"language": 1e-3})
    assert any("magnitude" in name for name in trained.rates)
    save(stirred(value(adapters)), value(adapters), tmp_path / "model")
    assert torch.equal(load(tmp_path / "model")[0](batch), stirred(value(adapters))(batch))


def test_no_adapter_changes_no_digest_and_an_absent_experts_is_not_hashed() -> None:
    plain = value({})
    assert value({}).digest() == config("a", "b", language=SCRATCH).digest()
    assert value(BOTH).digest() != plain.digest()
    assert value({"*b": {"rank": 2}}).digest() == value({"encoders.b": {"rank": 2}}).digest()
    adapted = value(BOTH)
    alone = adapted.model_copy(update={"encoders": {"a": adapted.encoders["a"]}})
    assert alone.adapted().keys() == {"language"}
    assert alone.hashed()["adapters"].keys() == {"language"}


def test_prices_count_adapters() -> None:
    def parameters(adapters: dict[str, Any]) -> dict[str, int]:
        costs = cost_by_part(value(adapters), text_tokens=4, views=1, head_tokens=1)
        return {part: cost.parameters for part, cost in costs.items()}

    plain, adapted = parameters({}), parameters(BOTH)
    model = build_model(value(BOTH), seed=0)
    held = {
        part: sum(p.numel() for name, p in module.named_parameters() if is_adapter(name))
        for part, module in model.parts().items()
    }
    assert {part: adapted[part] - plain[part] for part in plain} == held


def test_no_product_runs_in_32_bits_beside_a_quantised_matrix() -> None:
    adapters = {part: {**fields, "quantize": "int8"} for part, fields in BOTH.items()}
    model, batch = stirred(value(adapters)), batch_for(value(adapters))
    freeze(model.parts(), select(model.parts(), {"language": 1e-3, "encoders.b": 1e-3}))
    with Float32Products() as audit:
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = model.loss(batch)
        loss.backward()
    assert not audit.found


def test_what_is_left_behind_is_the_adapters_alone() -> None:
    model = build_model(value({"language": {"rank": 2, "quantize": "int8"}}), seed=0)
    trained = select(model.parts(), {"language": 1e-3})
    freeze(model.parts(), trained)
    state: dict[str, Tensor] = trained_state(model.parts(), trained)
    assert all(is_adapter(name) for name in state)


def test_what_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"adapters: unknown part 'langauge'; did you mean 'language'\?"):
        value({"langauge": {"rank": 2}})
    with pytest.raises(ConfigError, match=r"adapters.language.targets: .*q_porj"):
        build_model(value({"language": {"targets": ["q_porj"]}}), seed=0)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ConfigError, match=r"adapters.language needs the package 'peft': pip install 'ommatidia"):
        build_model(value({"language": {}}), seed=0)


def test_merging_leaves_no_adapters() -> None:
    model = stirred(value(BOTH))
    merge(model.parts().values())
    assert not any(is_adapter(name) for name, _ in model.named_parameters())
