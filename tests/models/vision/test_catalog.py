"""The catalog at full size: what the publications say of these encoders, without a weight; and which features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision import CATALOG, Card, EncoderConfig
from ommatidia.models.vision.catalog import _merged
from ommatidia.models.vision.measure_catalog import known

# Side in pixels, side of the grid, width: Cambrian-1 (2406.16860), table of vision backbones; Eagle (2408.15998).
GEOMETRY = {
    "clip_l_14_224": (224, 16, 1024), "clip_l_14_336": (336, 24, 1024), "clip_l_14_448": (448, 32, 1024),
    "clip_l_14_672": (672, 48, 1024), "dfn_clip_l_14_224": (224, 16, 1024), "dfn_clip_h_14_378": (378, 27, 1280),
    "eva02_clip_l_336": (336, 24, 1024), "siglip_l_384": (384, 24, 1024), "siglip_so400m_384": (384, 27, 1152),
    "siglip2_so400m_14_384": (384, 27, 1152), "siglip2_so400m_384": (384, 24, 1152),
    "siglip2_so400m_512": (512, 32, 1152), "convnext_l_1024": (1024, 32, 1536), "convnext_xxl_1024": (1024, 32, 3072),
    "convnext_l_1024_multi": (1024, 256, 192 + 384 + 768 + 1536),
    "convnext_xxl_1024_multi": (1024, 96, 384 + 768 + 1536 + 3072),
    "internvit_300m_448": (448, 32, 1024), "internvit_6b_448": (448, 32, 3200),
    "dinov2_l": (518, 37, 1024), "dinov2_g": (518, 37, 1536), "dinov3_l": (256, 16, 1024),
    "moco_v3_b": (224, 14, 768), "moco_v3_l": (224, 14, 1024), "mae_l": (224, 14, 1024), "mae_h": (224, 16, 1280),
    "ijepa_h": (224, 16, 1280), "vit_l_in21k": (224, 14, 1024), "vit_h_in21k": (224, 16, 1280),
    "sam_l_1024": (1024, 64, 256), "sam_h_1024": (1024, 64, 256), "sam_h_raw": (1024, 64, 1280),
    "dpt_large_384": (384, 24, 1024), "dpt_beit_large_512": (512, 32, 1024),
    "stable_diffusion_2_1": (512, 32, 3520), "radio_v3_l": (512, 32, 1024), "radio_v3_h": (512, 32, 1280),
    "radio_v4_h": (512, 32, 1280),
}  # fmt: skip

# Exact counts of the published files, less what has no part in the features.
PARAMETERS = {
    "convnext_xxl_1024": 846_471_016 - (3072 * 1000 + 1000) - 2 * 3072,  # classifier, head norm
    "sam_l_1024": 308_278_272,  # image encoder with its neck
    "sam_h_1024": 637_026_048,
    "siglip_so400m_384": 428_225_600 - 15_238_352,  # pooling head
    "dinov2_l": 304_368_640 - 1024,  # mask token
    "dinov2_g": 1_136_480_768 - 1536,
    # UNet less its last norm and convolution, and the encoding half of the VAE.
    "stable_diffusion_2_1": 865_910_724 - (2 * 320 + 320 * 4 * 9 + 4) + 34_163_592 + 72,
}  # fmt: skip

# Blocks, tokens with class and registers, width, MLP width, matrices of the MLP, side of a patch.
PLAIN = {
    "mae_l": (24, 197, 1024, 4096, 2, 16), "mae_h": (32, 257, 1280, 5120, 2, 14),
    "ijepa_h": (32, 256, 1280, 5120, 2, 14), "moco_v3_b": (12, 197, 768, 3072, 2, 16),
    "vit_h_in21k": (32, 257, 1280, 5120, 2, 14),
    "clip_l_14_448": (23, 1025, 1024, 4096, 2, 14), "siglip_so400m_384": (27, 729, 1152, 4304, 2, 14),
    "dfn_clip_h_14_378": (32, 730, 1280, 5120, 2, 14), "dinov2_g": (40, 1370, 1536, 4096, 3, 14),
    "internvit_6b_448": (45, 1025, 3200, 12800, 2, 14), "eva02_clip_l_336": (24, 577, 1024, 2730, 3, 14),
    "dpt_large_384": (24, 577, 1024, 4096, 2, 16), "dpt_beit_large_512": (24, 1025, 1024, 4096, 2, 16),
    "radio_v3_h": (32, 1034, 1280, 5120, 2, 16),
}  # fmt: skip

# PyTorch's counter on the published implementations (Eagle's towers), and round numbers from the same counter.
TERAFLOP = {
    "convnext_xxl_1024": 6.335, "siglip_so400m_384": 0.666, "dinov2_l": 1.014, "sam_l_1024": 2.986,
}  # fmt: skip


def test_nothing_of_the_comparisons_is_missing() -> None:
    assert GEOMETRY.keys() <= CATALOG.keys()


@pytest.mark.parametrize("name", GEOMETRY)
def test_grid_and_width_are_the_published_ones(name: str) -> None:
    side, cells, width = GEOMETRY[name]
    measure = known(name, CATALOG[name])
    assert measure.pixels == (side, side)
    assert (measure.grid.height, measure.grid.width, measure.grid.dim) == (cells, cells, width)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert known(name, CATALOG[name]).cost.parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_transformer_costs_what_its_formula_says(name: str) -> None:
    blocks, tokens, width, hidden, matrices, patch = PLAIN[name]
    flops = blocks * tokens * (8 * width**2 + 2 * matrices * hidden * width + 4 * tokens * width)
    flops += 2 * tokens * 3 * patch**2 * width
    assert known(name, CATALOG[name]).cost.flops == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize("name", TERAFLOP)
def test_flops_are_the_recorded_ones(name: str) -> None:
    assert known(name, CATALOG[name]).cost.flops / 1e12 == pytest.approx(TERAFLOP[name], rel=0.01)


def test_another_layer_costs_what_was_recorded() -> None:
    whole = EncoderConfig.parse({**CATALOG["clip_l_14_336"].encoder, "features": "last"})
    assert whole.cost().parameters == 303_507_456 - 2 * 1024  # the last norm sees the class token alone
    assert whole.cost().flops / 1e9 == pytest.approx(381, rel=0.01)


def test_a_name_is_taken_once() -> None:
    card = Card({"kind": "patches"}, "none", "nowhere", "none")
    with pytest.raises(ValueError, match="two encoders of the name 'a'"):
        _merged({"a": card}, {"b": card, "a": card})


# Features are the right ones


def small(name: str, **fields: Any) -> Any:
    return EncoderConfig.parse({**CATALOG[name].twin(), **fields})


def test_radio_positions_of_a_wide_picture_are_cut_from_the_square() -> None:
    square, wide = (small("radio_v3_l", image_size=size).build().trunk.model.embeds for size in (128, (64, 128)))
    assert torch.equal(square.pos_embed, wide.pos_embed)
    pixels_BCHW = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        whole, cut = square(pixels_BCHW)[0], wide(pixels_BCHW[:, :, :64])[0]
    prefix = whole.shape[1] - 8 * 8
    torch.testing.assert_close(cut[:, prefix:], whole[:, prefix : prefix + 4 * 8])


def test_convnext_stages_meet_bilinearly_on_cambrian_s_grid() -> None:
    config = small("convnext_xxl_1024_multi")
    pixels_BCHW = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        stages = [
            small("convnext_xxl_1024", features=i).build()(pixels_BCHW).permute(0, 3, 1, 2) for i in range(4)
        ]  # fmt: skip
        wanted = torch.cat([functional.interpolate(s, (6, 8), mode="bilinear", align_corners=False) for s in stages], 1)
        torch.testing.assert_close(config.build()(pixels_BCHW), wanted.permute(0, 2, 3, 1))


def test_siglip_ends_with_its_norm_and_clip_two_blocks_before_it() -> None:
    siglip, clip = small("siglip_so400m_384").build().trunk.model, small("clip_l_14_336").build().trunk.model
    assert type(siglip.post_layernorm).__name__ == "LayerNorm"
    assert type(clip.post_layernorm).__name__ == "Skip"
    assert len(clip.encoder.layers) == 2  # of three


def test_a_part_of_a_larger_file_is_taken_by_its_prefix(tmp_path: Path) -> None:
    from transformers import BeitConfig, DPTConfig, DPTForDepthEstimation

    card = CATALOG["dpt_beit_large_512"]
    body = dict(card.twin()["config"])
    stages = {"out_features": ["stage1", "stage2", "stage3"], "reshape_hidden_states": False}
    whole = DPTForDepthEstimation(
        DPTConfig(
            backbone_config=BeitConfig(**body, **stages), hidden_size=32, neck_hidden_sizes=[8, 8, 8],
            reassemble_factors=[2, 1, 0.5], fusion_hidden_size=8,
        )
    ).eval()  # fmt: skip
    whole.save_pretrained(tmp_path)
    weights = {"kind": "folder", "path": str(tmp_path), "prefix": card.encoder["weights"]["prefix"]}
    encoder = small("dpt_beit_large_512", weights=weights).build()
    pixels_BCHW = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted = whole.backbone(pixels_BCHW).feature_maps[-1][:, 1:]
        torch.testing.assert_close(encoder(pixels_BCHW).flatten(1, 2), wanted)
    with pytest.raises(ConfigError, match="tensors are missing"):
        small("dpt_beit_large_512", weights={**weights, "prefix": "neck."}).build()


def whole_models() -> dict[str, Any]:
    """The larger model that the published file holds, beside the part of it that is the encoder."""
    import transformers as t

    siglip, dinov2, ijepa, dpt = (
        dict(CATALOG[name].twin()["config"]) for name in ("siglip_so400m_384", "dinov2_g", "ijepa_h", "dpt_large_384")
    )
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 8,
    }
    neck = {"neck_hidden_sizes": [8, 8, 8], "reassemble_factors": [2, 1, 0.5], "fusion_hidden_size": 8}
    two_halves = t.SiglipModel(t.SiglipConfig(vision_config=siglip, text_config=text))
    plain, unpooled = t.Dinov2Model(t.Dinov2Config(**dinov2)), t.IJepaModel(t.IJepaConfig(**ijepa), False)
    depth = t.DPTForDepthEstimation(t.DPTConfig(**dpt, **neck, backbone_out_indices=[0, 1, 2]))
    return {
        "siglip_so400m_384": (two_halves, two_halves.vision_model), "dinov2_g": (plain, plain),
        "ijepa_h": (unpooled, unpooled), "dpt_large_384": (depth, depth.dpt),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["siglip_so400m_384", "dinov2_g", "ijepa_h", "dpt_large_384"])
def test_the_published_file_gives_the_last_hidden_state(name: str, tmp_path: Path) -> None:
    whole, body = whole_models()[name]
    whole.eval().save_pretrained(tmp_path)
    config = small(name, weights={"kind": "folder", "path": str(tmp_path)})
    pixels_BCHW = torch.randn(1, 3, *config.preprocess().size)
    with torch.no_grad():
        ours = config.build()(pixels_BCHW).flatten(1, 2)
        torch.testing.assert_close(ours, body(pixels_BCHW).last_hidden_state[:, -ours.shape[1] :])


def test_moco_leaves_the_linear_probe_of_its_file_aside(tmp_path: Path) -> None:
    import timm

    config = small("moco_v3_b")
    probe = timm.create_model("vit_base_patch16_224", **{**config.args, "num_classes": 1000, "img_size": 64}).eval()
    save_file(probe.state_dict(), tmp_path / "model.safetensors")
    loaded = small("moco_v3_b", weights={"kind": "file", "path": str(tmp_path / "model.safetensors")}).build()
    pixels_BCHW = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels_BCHW).flatten(1, 2), probe.forward_features(pixels_BCHW)[:, 1:])
