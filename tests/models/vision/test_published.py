"""Encoders written here under published names: equal to the transformers modules that have the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.models.vision import (
    ClipEncoder,
    EncoderConfig,
    Eva02DetEncoder,
    Pix2StructEncoder,
    SamEncoder,
)
from ommatidia.models.vision.eva02_det import rotate, turns, wider
from ommatidia.models.vision.pix2struct import flat_patches, patch_grid
from ommatidia.models.vision.preprocess import HALF
from ommatidia.models.vision.published import from_windows, to_windows
from ommatidia.models.vision.sam import decomposed_attention, distances

KINDS = [ClipEncoder, Eva02DetEncoder, Pix2StructEncoder, SamEncoder]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scattered(module: nn.Module) -> nn.Module:
    """No parameter at its initial value, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def built(config: EncoderConfig, like: nn.Module) -> nn.Module:
    trunk = config.trunk(pretrained=False).eval()
    trunk.load_state_dict(config.published(like.state_dict()))
    return trunk


# Against transformers


def test_clip_is_transformers_clip_without_its_class_token() -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    theirs: Any = scattered(CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=8)))
    whole = nn.Module()
    whole.vision_model = getattr(theirs, "vision_model", theirs)
    config = ClipEncoder(
        image_size=32, width=32, depth=2, heads=2, hidden=48, patch=8, pretrained_size=32, features=(0, 1)
    )
    pixels_BCHW, model = noise(2, 3, 32, 32), whole.vision_model
    with torch.no_grad():
        ours_BHWD = built(config, whole)(pixels_BCHW)
        x_BND = model.embeddings.patch_embedding(pixels_BCHW).flatten(2).transpose(1, 2)
        x_BND = model.pre_layrnorm(x_BND + model.embeddings.position_embedding.weight[1:])
        outputs = []
        for layer in model.encoder.layers:
            x_BND = layer(x_BND, attention_mask=None)
            x_BND = x_BND[0] if isinstance(x_BND, tuple) else x_BND
            outputs.append(x_BND)
    torch.testing.assert_close(ours_BHWD.flatten(1, 2), torch.cat(outputs, -1), atol=1e-5, rtol=1e-5)


def sam_pair(**changes: Any) -> tuple[nn.Module, nn.Module]:
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    sizes = {"hidden_size": 32, "mlp_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "output_channels": 8}
    config = SamVisionConfig(
        **sizes, image_size=56, patch_size=8, window_size=3, global_attn_indexes=[1], attn_implementation="eager"
    )
    theirs = scattered(SamVisionEncoder(config))
    ours = SamEncoder(
        image_size=56, width=32, depth=2, heads=2, hidden=48, patch=8, window=3, global_blocks=(1,),
        pretrained_size=56, end_dim=8, **changes,
    )  # fmt: skip
    return built(ours, theirs), theirs


@pytest.mark.parametrize("gradients", [True, False])
def test_sam_is_transformers_sam(gradients: bool) -> None:
    ours, theirs = sam_pair()
    pixels_BCHW = noise(2, 3, 56, 56)
    with torch.set_grad_enabled(gradients):
        expected_BCHW = theirs(pixels_BCHW).last_hidden_state
        found_BHWD = ours(pixels_BCHW)
    torch.testing.assert_close(found_BHWD.permute(0, 3, 1, 2), expected_BCHW, atol=1e-5, rtol=1e-5)
    if gradients:
        expected_BCHW.square().sum().backward()
        found_BHWD.square().sum().backward()
        theirs_by_name = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.grad, theirs_by_name[name].grad, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (300, 700), (640, 333)])
def test_patches_are_those_of_the_transformers_processor(rows: int, columns: int) -> None:
    from transformers import Pix2StructImageProcessor

    picture = np.random.default_rng(3).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    processor = Pix2StructImageProcessor(max_patches=100, is_vqa=False)
    theirs = processor(torch.from_numpy(picture).permute(2, 0, 1), return_tensors="pt")["flattened_patches"][0]
    pixels_BCHW = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    ours_BHWD = flat_patches(pixels_BCHW, mean=HALF, std=HALF, patch=16, budget=100)
    height, width = patch_grid(rows, columns, patch=16, budget=100)
    assert ours_BHWD.shape == (1, height, width, 768)
    kept = theirs[: height * width]
    assert not theirs[height * width :].any()
    assert kept[-1, :2].tolist() == [height, width]
    torch.testing.assert_close(ours_BHWD[0].flatten(0, 1), kept[:, 2:], atol=2e-5, rtol=1e-5)


def test_pix2struct_is_transformers_pix2struct_with_its_padding() -> None:
    from transformers import Pix2StructVisionConfig, Pix2StructVisionModel

    sizes = {"hidden_size": 32, "d_ff": 48, "d_kv": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {"patch_size": 8, "patch_embed_hidden_size": 192, "seq_len": 16}
    theirs = scattered(Pix2StructVisionModel(Pix2StructVisionConfig(**sizes, **shape)))
    config = Pix2StructEncoder(
        image_size=(40, 64), max_patches=20, width=32, depth=2, heads=2, hidden=48, patch=8, positions=16
    )
    pixels_BCHW = noise(2, 3, 40, 64)
    found = flat_patches(pixels_BCHW, mean=HALF, std=HALF, patch=8, budget=20)
    height, width = found.shape[1:3]
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1) + 1.0
    rows = torch.cat([place.expand(2, -1, -1, -1), found], -1).flatten(1, 2)
    padded = functional.pad(rows, (0, 0, 0, 20 - height * width))
    mask = (padded.sum(-1) != 0).float()
    assert (mask == 0).sum() > 0
    with torch.no_grad():
        expected_BND = theirs(padded, attention_mask=mask).last_hidden_state[:, : height * width]
        ours_BHWD = built(config, theirs)(pixels_BCHW)
    assert (height, width) == (3, 5)
    torch.testing.assert_close(ours_BHWD.flatten(1, 2), expected_BND, atol=1e-5, rtol=1e-5)


# Parts


def test_a_constant_picture_has_finite_patches() -> None:
    assert not flat_patches(torch.ones(1, 3, 8, 8), mean=HALF, std=HALF, patch=4, budget=4).any()


@pytest.mark.parametrize(("rows", "columns"), [(1024, 1024), (1, 5000), (333, 640)])
def test_the_patch_budget_is_kept_and_the_shape_too(rows: int, columns: int) -> None:
    height, width = patch_grid(rows, columns, patch=16, budget=2048)
    assert 1 <= height * width <= 2048
    if rows == columns:
        assert (height, width) == (45, 45)


def test_rotation_is_the_textbook_one() -> None:
    x, angles = noise(1, 2, 6, 8), torch.angle(turns(2, 3, 8))
    assert turns(2, 3, 8).shape == (6, 4)
    # The second row stands at 8 of 16, the third column at 32 / 3; two speeds each, 1 and 1 / 100.
    assert angles[3, 0].item() == pytest.approx((8 + np.pi) % (2 * np.pi) - np.pi, abs=1e-5)
    assert angles[2, 3].item() == pytest.approx(32 / 3 / 100, abs=1e-5)
    even, odd = x[..., ::2], x[..., 1::2]
    expected = torch.stack(
        [even * angles.cos() - odd * angles.sin(), odd * angles.cos() + even * angles.sin()], -1
    ).flatten(-2)
    torch.testing.assert_close(rotate(x, turns(2, 3, 8)), expected)


@pytest.mark.parametrize(("height", "width"), [(6, 4), (5, 7), (1, 1)])
def test_windows_and_back(height: int, width: int) -> None:
    x_BHWD = noise(2, height, width, 3)
    windows = to_windows(x_BHWD, 3)
    assert windows.shape == (2 * -(-height // 3) * -(-width // 3), 3, 3, 3)
    assert torch.equal(windows[0, 0, 0], x_BHWD[0, 0, 0])
    assert torch.equal(from_windows(windows, height, width), x_BHWD)


@pytest.mark.parametrize("gradients", [True, False])
def test_decomposed_attention_is_attention_with_a_bias(gradients: bool) -> None:
    height, width = 5, 70  # more columns than queries of one step
    q, k, v = (noise(2, 3, height * width, 8, seed=seed) for seed in range(3))
    to_rows, to_columns = noise(2, 3, height, width, height, seed=3), noise(2, 3, height, width, width, seed=4)
    bias = (to_rows[..., :, None] + to_columns[..., None, :]).flatten(4).flatten(2, 3)
    expected = (q @ k.transpose(-1, -2) * 8**-0.5 + bias).softmax(-1) @ v
    found = decomposed_attention(q.requires_grad_(gradients), k, v, to_rows, to_columns)
    torch.testing.assert_close(found.detach(), expected, atol=1e-5, rtol=1e-5)


def test_distances() -> None:
    table_LD = torch.arange(5.0)[:, None]  # -2 .. 2 for a side of 3
    assert distances(table_LD, 3)[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    resampled = distances(table_LD, 2)[..., 0]
    assert resampled[0, 0] == resampled[1, 1] == 2
    assert (resampled[0, 1].item(), resampled[1, 0].item()) == pytest.approx((1 / 3, 11 / 3))


# Sizes, types, weights


@pytest.mark.parametrize("cls", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (24, 72)])
def test_any_size_has_its_grid(cls: type[EncoderConfig], size: tuple[int, int]) -> None:
    changes = {"input_size": None} if cls is ClipEncoder else {}
    config = cls.parse({**cls.tiny().to_dict(), **changes, "image_size": size})
    grid = config.trunk_grid()
    if cls is not Pix2StructEncoder:
        assert (grid.height, grid.width) == (size[0] // 8, size[1] // 8)
    with torch.no_grad():
        assert config.build()(noise(1, 3, *size)).shape[1:] == (grid.height, grid.width, grid.dim)


@pytest.mark.parametrize("cls", KINDS)
def test_a_module_in_bfloat16_stays_close(cls: type[EncoderConfig]) -> None:
    config = cls.tiny()
    encoder = config.build()
    pixels_BCHW = noise(1, 3, *config.preprocess().size)
    with torch.no_grad():
        exact = encoder(pixels_BCHW)
        rough = encoder.bfloat16()(pixels_BCHW)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() <= 0.05 * exact.norm()


@pytest.mark.parametrize("cls", KINDS)
def test_blocks_as_features(cls: type[EncoderConfig]) -> None:
    tiny = cls.tiny().to_dict()
    first, both = (cls.parse({**tiny, "features": features}) for features in (0, (0, -1)))
    assert both.trunk_grid() == first.trunk_grid().with_dim(64)
    assert first.trunk_cost().parameters < both.trunk_cost().parameters
    pixels_BCHW = noise(1, 3, *first.preprocess().size)
    with torch.no_grad():
        assert torch.equal(both.build()(pixels_BCHW)[..., :32], first.build()(pixels_BCHW))


@pytest.mark.parametrize("cls", KINDS)
def test_something_may_stand_between_blocks(cls: type[EncoderConfig]) -> None:
    config = cls.parse({**cls.tiny().to_dict(), "features": [0, 2]})
    trunk, pixels_BCHW = config.build().trunk, noise(1, 3, *config.preprocess().size)
    with torch.no_grad():
        plain, changed = trunk(pixels_BCHW), trunk(pixels_BCHW, {0: lambda x: x + noise(32), 2: lambda x: 2 * x})
        assert torch.equal(trunk(pixels_BCHW, {1: lambda x: x}), plain)
    assert torch.equal(changed[..., :32], plain[..., :32] + noise(32))
    assert not torch.allclose(changed[..., 32:], 2 * plain[..., 32:])  # later blocks have seen the first change


@pytest.mark.parametrize("cls", KINDS)
def test_a_published_file_is_read_by_name(cls: type[EncoderConfig], tmp_path: Path) -> None:
    tiny = cls.tiny()
    state = tiny.build().trunk.state_dict()
    extra = {"vision_model.post_layernorm.weight": torch.ones(3)} if cls is ClipEncoder else {}
    path = tmp_path / "weights.safetensors"
    save_file({f"deep.{name}": tensor for name, tensor in {**state, **extra}.items()} | {"head": noise(2)}, path)
    data = {**tiny.to_dict(), "weights": {"kind": "file", "path": str(path), "prefix": "deep.", "seed": 5}}
    for name, tensor in cls.parse(data).build().trunk.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    save_file({f"deep.{name}": tensor for name, tensor in list(state.items())[1:]}, path)
    with pytest.raises(ConfigError, match="1 missing"):
        cls.parse(data).build()


def test_averaged_weights_of_a_training_checkpoint_come_first(tmp_path: Path) -> None:
    tiny = Eva02DetEncoder.tiny()
    state = {f"backbone.net.{name}": tensor for name, tensor in tiny.build().trunk.state_dict().items()}
    tables = {"backbone.net.rope_glb.freqs_cos": noise(2), "backbone.net.blocks.0.attn.rope.freqs_sin": noise(2)}
    path = tmp_path / "detector.pth"
    torch.save({"model": {"other": noise(1)}, "ema_state": {**state, **tables, "roi_heads.x": noise(1)}}, path)
    data = {**tiny.to_dict(), "weights": {"kind": "file", "path": str(path), "prefix": "backbone.net.", "seed": 5}}
    loaded = Eva02DetEncoder.parse(data).build().trunk.state_dict()
    assert all(torch.equal(tensor, state[f"backbone.net.{name}"]) for name, tensor in loaded.items())


def test_a_short_neck_stays_as_drawn_where_the_file_holds_the_whole_one(tmp_path: Path) -> None:
    path, tiny = tmp_path / "sam.safetensors", SamEncoder.tiny().to_dict()
    save_file(SamEncoder.tiny().build().trunk.state_dict(), path)
    short = SamEncoder.parse({**tiny, "end": "short", "weights": {"kind": "random", "seed": 9}})
    loaded = SamEncoder.parse({**tiny, "end": "short", "weights": {"kind": "file", "path": str(path), "seed": 9}})
    ours, drawn = loaded.build().trunk.state_dict(), short.build().trunk.state_dict()
    assert torch.equal(ours["neck.conv1.weight"], drawn["neck.conv1.weight"])
    assert not torch.equal(ours["pos_embed"], drawn["pos_embed"])
    assert "neck.conv2.weight" not in ours


def test_unshuffled_channels_stand_in_the_published_order() -> None:
    tiny = SamEncoder.tiny().to_dict() | {"image_size": (48, 32)}
    pixels_BCHW = noise(1, 3, 48, 32)
    with torch.no_grad():
        plain = SamEncoder.parse(tiny).build()(pixels_BCHW)
        folded = SamEncoder.parse({**tiny, "unshuffle": 2}).build()(pixels_BCHW)
    assert folded.shape == (1, 3, 2, 48)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert torch.equal(folded[..., 2 * dy + dx :: 4], plain[:, dy::2, dx::2])


@pytest.mark.parametrize("name", ["clip_336", "clip_448", "convnext_xxl", "sam_l", "eva02_l_det", "pix2struct_l"])
def test_all_of_eagle_sees_one_tensor(name: str) -> None:
    config, other = EncoderConfig.parse(f"eagle_{name}"), EncoderConfig.parse("eagle_sam_l")
    assert config.preprocess() == other.preprocess()
    assert config.preprocess().fit == "pad_first"


@pytest.mark.parametrize(
    ("name", "grid", "parameters", "gflop"),
    [
        ("eagle_clip_336", Grid(24, 24, 1024), 303_507_456 - 3 * 1024, 381),
        ("eagle_clip_448", Grid(32, 32, 1024), 303_507_456 - 3 * 1024, 723),
        ("eagle_convnext_xxl", Grid(32, 32, 3072), 846_471_016 - 2 * 3072 - 1000 * 3073, 6335),
        ("eagle_sam_l", Grid(32, 32, 1024), 307_687_936, 2981),
        ("eagle_eva02_l_det", Grid(64, 64, 1024), 303_388_608, 3098),
        ("eagle_pix2struct_l", Grid(45, 45, 1536), 512_812_032, 2513),  # the published count has padded patches in it
    ],
)
def test_published_sizes_are_known_without_weights(name: str, grid: Grid, parameters: int, gflop: float) -> None:
    """Parameters less class embedding, final norm and classifier, where there are such; operations of one image."""
    config = EncoderConfig.parse(name)
    assert config.grid() == grid
    assert config.trunk_cost().parameters == parameters
    assert config.trunk_cost().flops / 1e9 == pytest.approx(gflop, rel=0.015)


def test_sam_before_its_neck() -> None:
    config = EncoderConfig.parse("sam_l_raw@512")
    assert config.grid() == Grid(32, 32, 1024)
    assert config.trunk_cost().parameters == 307_687_936 - 1024 * 256 - 2 * 256


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"kind": "sam", "image_size": 1000}, "1000x1000 is not divisible by the patch size 16 of sam"),
        ({"kind": "sam", "image_size": 1008, "unshuffle": 2}, "unshuffle 2 does not divide the grid 63x63"),
        ({"kind": "sam", "features": 24}, "24 is out of range; there are 24 blocks"),
        ({"kind": "sam", "global_blocks": [24]}, "there are blocks 0 to 23"),
        ({"kind": "clip", "image_size": 1024}, "1024x1024 is not divisible by the patch size 14"),
        ({"kind": "clip", "image_size": 1024, "input_size": 450}, "450x450 is not divisible"),
        ({"kind": "clip", "weights": "hub"}, "clip reads random, file, package or hub_file, not 'hub'"),
        ({"kind": "eva02_det", "width": 1000}, "16 heads need a multiple of 64"),
        ({"kind": "pix2struct", "positions": 45}, "45x45 patches needs more than 45 positions"),
    ],
)  # fmt: skip
def test_bad_values_are_refused(value: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EncoderConfig.parse(value)


def test_a_file_of_the_hub_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    weights = {"kind": "hub_file", "id": "nobody/nothing", "file": "weights.bin"}
    encoder = EncoderConfig.parse({**ClipEncoder.tiny().to_dict(), "weights": weights})
    with pytest.raises(ConfigError, match=r"bin is not in the hub's cache and may not be fetched; .*--download"):
        encoder.build()
    monkeypatch.setenv("OMMATIDIA_DOWNLOAD", "1")
    with pytest.raises(ConfigError, match=r"nobody/nothing/weights\.bin could not be fetched"):
        encoder.build()


def test_a_layer_scale_published_as_weight_finds_its_place_in_timm() -> None:
    args = {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}
    config = EncoderConfig.parse({"kind": "timm", "model": "convnext_xxlarge", "args": args, "image_size": 32})
    state = config.build().trunk.state_dict()
    scales = [name for name in state if name.endswith("gamma")]
    assert len(scales) == 4
    names = {name.removeprefix("model.").replace("gamma", "weight"): tensor for name, tensor in state.items()}
    found = config.published({**names, "head.fc.weight": noise(2)})
    assert {name: id(tensor) for name, tensor in found.items()} == {name: id(tensor) for name, tensor in state.items()}


def test_a_wider_layer_gives_the_same_numbers_and_zeros_beside_them() -> None:
    torch.manual_seed(0)
    layer, x_ND = nn.Linear(6, 5), torch.randn(4, 6)
    assert torch.equal(wider(layer, x_ND), layer(x_ND))
    more = wider(layer, x_ND, rows=3)
    torch.testing.assert_close(more[:, :5], layer(x_ND))
    assert not more[:, 5:].any()
    torch.testing.assert_close(wider(layer, functional.pad(x_ND, (0, 2)), columns=2), layer(x_ND))
