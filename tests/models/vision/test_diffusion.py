"""Stable Diffusion's features: against diffusers' own schedule and whole UNet, repeatable, and read from a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision import DiffusionEncoder, EncoderConfig

pytest.importorskip("diffusers", reason="needs the extra diffusion")


def picture(config: DiffusionEncoder, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, *config.image_size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def config() -> DiffusionEncoder:
    return DiffusionEncoder.tiny()


def test_features_are_the_up_blocks_of_one_noised_step(config: DiffusionEncoder) -> None:
    from diffusers import DDPMScheduler

    trunk = config.trunk(pretrained=False)
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    pixels_BCHW = picture(config)
    maps: list[torch.Tensor] = []
    with torch.no_grad():
        ours = trunk(pixels_BCHW)
        for block in trunk.unet.up_blocks:
            block.register_forward_hook(lambda _module, _args, out: maps.append(out))
        latent = trunk.vae.encode(pixels_BCHW).latent_dist.mean * 0.18215
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
        noisy = schedule.add_noise(latent, noise, torch.tensor([250]))
        trunk.unet(noisy, torch.tensor([250]), encoder_hidden_states=trunk.prompt_1TD)  # to its very end
    wanted = [functional.interpolate(x, (8, 12), mode="bilinear", align_corners=False) for x in maps]
    torch.testing.assert_close(ours, torch.cat(wanted, 1).permute(0, 2, 3, 1), atol=1e-5, rtol=1e-4)


def test_features_depend_on_the_picture_and_the_config_alone(config: DiffusionEncoder) -> None:
    with torch.no_grad():
        torch.manual_seed(1)
        encoder = config.build()
        first = encoder(picture(config))
        torch.manual_seed(2)
        again, of_two = config.build()(picture(config)), encoder(picture(config).expand(2, -1, -1, -1))
        other = config.model_copy(update={"noise_seed": 7})
        assert torch.equal(first, again)
        torch.testing.assert_close(of_two[1:], first)
        assert not torch.allclose(other.build()(picture(config)), first)
    assert other.trunk_digest() != config.trunk_digest()


def test_a_folder_in_diffusers_layout_is_read_and_the_empty_prompt_with_it(
    tmp_path: Path, config: DiffusionEncoder
) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    source = config.model_copy(update={"weights": config.weights.model_copy(update={"seed": 5})}).trunk(
        pretrained=False
    )
    source.vae.save_pretrained(tmp_path / "vae")
    source.unet.save_pretrained(tmp_path / "unet")
    words = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            bos_token_id=1, eos_token_id=2,
        )
    ).eval()  # fmt: skip
    words.save_pretrained(tmp_path / "text_encoder")
    save_tokenizer(tmp_path / "tokenizer")
    weights = {"kind": "folder", "path": str(tmp_path)}
    data = {**config.to_dict(), "weights": weights}
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        EncoderConfig.parse(data).build()
    (tmp_path / "model_index.json").write_text("{}")
    loaded = EncoderConfig.parse(data).build().trunk
    with torch.no_grad():
        ids = torch.tensor([[1, 2] + [0] * 75])  # begin, end, and the padding that Stable Diffusion 2 was trained with
        torch.testing.assert_close(loaded.prompt_1TD, words(ids).last_hidden_state)
        source.prompt_1TD = loaded.prompt_1TD
        torch.testing.assert_close(loaded(picture(config)), source(picture(config)))
    identity = EncoderConfig.parse(data).weights.identity()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"changed": True}))
    assert EncoderConfig.parse(data).weights.identity() != identity


def save_tokenizer(folder: Path) -> None:
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({"!": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def test_without_diffusers_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match=r"pip install 'ommatidia\[diffusion\]'"):
        DiffusionEncoder.tiny().build()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"image_size": 500}, "500x500 is not divisible by 16"),
        ({"features": []}, "at least one up-block"),
        ({"features": [4]}, "less than or equal to 3"),
        ({"timestep": 1000}, "less than 1000"),
        ({"weights": {"kind": "hub"}}, "which repository"),
        ({"weights": {"kind": "file", "path": "x"}}, "random, folder or hub, not 'file'"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EncoderConfig.parse({"kind": "diffusion", **fields})


def test_an_unknown_argument_of_the_unet_is_refused() -> None:
    with pytest.raises(ConfigError, match="unet or vae"):
        EncoderConfig.parse({**DiffusionEncoder.tiny().to_dict(), "unet": {"norm_num_groups": 7}}).grid()
