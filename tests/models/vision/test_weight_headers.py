"""Whether weights will fit is told by the headers of their files: no tensor is read, no download is made."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from ommatidia.core.errors import ConfigError
from ommatidia.models.language import LanguageConfig
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.models.vision.weights import read_tensors

VIT = {
    "kind": "timm",
    "model": "vit_tiny_patch16_224",
    "image_size": 32,
    "args": {"depth": 1, "embed_dim": 32, "num_heads": 2},
}


def of(path) -> EncoderConfig:
    return EncoderConfig.parse({**VIT, "weights": {"kind": "file", "path": str(path)}})


@pytest.fixture
def state():
    return dict(EncoderConfig.parse(VIT).trunk(pretrained=False).model.state_dict())


def saved(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_headers_hold_names_and_shapes_and_no_values(name, state, tmp_path):
    with torch.device("meta"):
        found = read_tensors(saved(state, tmp_path / name))
    assert {key: tensor.shape for key, tensor in found.items()} == {key: t.shape for key, t in state.items()}
    assert {tensor.device.type for tensor in found.values()} == {"meta"}
    of(tmp_path / name).check()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_another_layout_is_refused_as_building_refuses_it(name, state, tmp_path):
    wrong = {**state, "blocks.0.attn.qkv.weight": torch.zeros(3, 3)}
    missing = {key: tensor for key, tensor in state.items() if key != "blocks.0.attn.qkv.weight"}
    for spoilt in (wrong, missing):
        encoder = of(saved(spoilt, tmp_path / name))
        said = []
        for look in (encoder.check, encoder.build):
            with pytest.raises(ConfigError, match="qkv") as error:
                look()
            said.append(str(error.value))
        assert said[0] == said[1]


def test_a_torn_or_missing_file_is_refused(state, tmp_path):
    path = saved(state, tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConfigError, match="no readable file of tensors"):
        of(path).check()
    with pytest.raises(ConfigError, match="no such file"):
        of(tmp_path / "none.safetensors").check()


def test_weights_of_the_hub_without_the_hub():
    for weights in ({"kind": "hub"}, {"kind": "hub", "id": "nobody/nothing"}):
        with pytest.raises(ConfigError, match="is not in the hub's cache"):
            EncoderConfig.parse({**VIT, "weights": weights}).check()
    with pytest.raises(ConfigError, match="is not in the hub's cache"):
        LanguageConfig.parse("vicuna_7b").check()


def test_a_language_folder_without_its_files(tmp_path):
    from transformers import LlamaConfig

    LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2).save_pretrained(
        tmp_path
    )
    language = LanguageConfig.parse({"kind": "hf", "path": str(tmp_path)})
    with pytest.raises(ConfigError, match="no weights; expected files of tensors in safetensors"):
        language.check()
    save_file({"a": torch.zeros(1)}, tmp_path / "model-00001-of-00002.safetensors")
    index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ConfigError, match=r"1 files .* are missing, for example 'model-00002-of-00002.safetensors'"):
        language.check()
    with pytest.raises(ConfigError, match="no tokenizer"):
        language.tokenizer()
