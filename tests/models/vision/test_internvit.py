"""InternViT-6B against transformers' InternVL vision model, and its published file layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision import EncoderConfig, InternVitEncoder

SMALL: dict[str, Any] = {"dim": 32, "depth": 3, "heads": 2, "hidden": 48, "patch": 8, "native": 32}


def published(model: Any) -> dict[str, torch.Tensor]:
    """The weights of transformers' model under the names of the original files."""
    state: dict[str, torch.Tensor] = {
        "embeddings.class_embedding": model.embeddings.cls_token,
        "embeddings.position_embedding": model.embeddings.position_embeddings,
        "embeddings.patch_embedding.weight": model.embeddings.patch_embeddings.projection.weight,
        "embeddings.patch_embedding.bias": model.embeddings.patch_embeddings.projection.bias,
    }
    for i, layer in enumerate(model.encoder.layer):
        attention, at = layer.attention, f"encoder.layers.{i}."
        state[f"{at}attn.qkv.weight"] = torch.cat([getattr(attention, f"{n}_proj").weight for n in "qkv"])
        modules = {
            "attn.proj": attention.projection_layer, "attn.q_norm": attention.q_norm, "attn.k_norm": attention.k_norm,
            "norm1": layer.layernorm_before, "norm2": layer.layernorm_after,
            "mlp.fc1": layer.mlp.fc1, "mlp.fc2": layer.mlp.fc2,
        }  # fmt: skip
        state |= {f"{at}{name}.{n}": p for name, module in modules.items() for n, p in module.named_parameters()}
        state |= {f"{at}ls1": layer.lambda_1, f"{at}ls2": layer.lambda_2}
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def original() -> Any:
    from transformers import InternVLVisionConfig, InternVLVisionModel

    torch.manual_seed(3)
    model = InternVLVisionModel(
        InternVLVisionConfig(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48, image_size=32,
            patch_size=8, norm_type="rms_norm", use_qk_norm=True, use_mean_pooling=True,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture
def folder(tmp_path: Path, original: Any) -> Path:
    state = published(original)
    names = sorted(state)
    save_file({name: state[name] for name in names[::2]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({name: state[name] for name in names[1::2]}, tmp_path / "model-00002-of-00002.safetensors")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("size", [(32, 32), (48, 40)])
def test_a_published_folder_gives_the_features_of_transformers(
    folder: Path, original: Any, size: tuple[int, int]
) -> None:
    weights = {"kind": "folder", "path": str(folder)}
    encoder = EncoderConfig.parse({"kind": "internvit", **SMALL, "image_size": size, "weights": weights}).build()
    pixels_BCHW = torch.randn(2, 3, *size)
    with torch.no_grad():
        wanted = original.encoder(original.embeddings(pixels_BCHW)).last_hidden_state[:, 1:]
        torch.testing.assert_close(encoder(pixels_BCHW).flatten(1, 2), wanted, atol=1e-5, rtol=1e-5)


def test_blocks_above_the_chosen_one_stay_in_the_file_and_nothing_else_does(folder: Path) -> None:
    data = {"kind": "internvit", **SMALL, "image_size": 32, "weights": {"kind": "folder", "path": str(folder)}}
    below = EncoderConfig.parse({**data, "features": 0}).build()
    both = EncoderConfig.parse({**data, "features": [0, -1]}).build()
    pixels_BCHW = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(both(pixels_BCHW)[..., :32], below(pixels_BCHW))
    assert len(list(below.trunk.encoder.layers)) == 1
    with pytest.raises(ConfigError, match="weights: names differ"):
        EncoderConfig.parse({**data, "depth": 4}).build()
    with pytest.raises(ConfigError, match="starts with 'vision'"):
        EncoderConfig.parse({**data, "weights": {**data["weights"], "prefix": "vision"}}).build()  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"image_size": 450}, "450x450 is not divisible by the patch size 14"),
        ({"heads": 7}, "dim 3200 is not divisible by heads 7"),
        ({"features": 45}, "45 is out of range; there are 45 blocks"),
        ({"features": [0, -46]}, "out of range"),
        (
            {"weights": {"kind": "package", "package": "p", "distribution": "d", "file": "f", "sha256": "0"}},
            "random, file, folder or hub, not 'package'",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        InternVitEncoder(**fields)
