"""Eagle's five encoders from published weights give the numbers that the published implementation gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ommatidia.models.fusion import Bilinear
from ommatidia.models.vision import EncoderConfig, Preprocess
from ommatidia.models.vision.pix2struct import flat_patches
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD

EAGLE = {"image_size": 1024, "mean": CLIP_MEAN, "std": CLIP_STD, "fit": "pad_first"}
ORDER = ("clip", "convnext", "sam", "det", "pix2struct")
PREFIX = "model.vision_" + "tower.vision_" + "towers.{}.vision_" + "tower."


def settings(sizes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Our configs of the recorded encoders."""
    clip, convnext, sam, det, pix = (sizes[name] for name in ORDER)
    blocks = set(range(det["depth"])) - set(det["window_blocks"])
    return {
        "clip": {
            "kind": "clip", "width": clip["width"], "depth": clip["depth"], "heads": clip["heads"],
            "hidden": clip["mlp"], "input_size": 336,
        },
        "convnext": {
            "kind": "timm", "model": "convnext_xxlarge.clip_laion2b_soup", "features": [0, 1, 2, 3],
            "args": {"depths": convnext["depths"], "dims": convnext["dims"]},
        },
        "sam": {
            "kind": "sam", "width": sam["width"], "depth": sam["depth"], "heads": sam["heads"], "hidden": sam["mlp"],
            "global_blocks": sam["global_layers"], "end": "short", "end_dim": sam["neck_channels"], "unshuffle": 2,
        },
        "det": {
            "kind": "eva02_det", "width": det["width"], "depth": det["depth"], "heads": det["heads"],
            "global_blocks": sorted(blocks),
        },
        "pix2struct": {
            "kind": "pix2struct", "width": pix["width"], "depth": pix["depth"], "heads": pix["heads"],
            "hidden": pix["mlp"], "positions": pix["position_rows"],
        },
    }  # fmt: skip


class Recorded:
    """The case, its images as pixels, and our encoders with its weights."""

    def __init__(self, case: Any) -> None:
        self.case, self.out = case, case.tensors("outputs")
        preprocess = Preprocess(size=1024, mean=CLIP_MEAN, std=CLIP_STD)
        self.pixels_BCHW = torch.stack([preprocess(case.image(name)) for name in case.config["images"]])
        self.configs = settings(case.config["towers"])
        self.fused = Bilinear(align_corners=True)
        self.maps: dict[str, Tensor] = {}

    def trunk(self, name: str, **changes: Any) -> nn.Module:
        config = EncoderConfig.parse({**EAGLE, **self.configs[name], **changes})
        trunk = config.trunk(pretrained=False)
        state = config.published(self.case.weights(PREFIX.format(ORDER.index(name))))
        if "features" in changes:  # an early stage has no place for what stands behind it
            state = {key: tensor for key, tensor in state.items() if key in trunk.state_dict()}
        trunk.load_state_dict(state)
        return trunk.eval()

    def features(self, name: str, **changes: Any) -> Tensor:
        key = f"{name}{changes}"
        if key not in self.maps:
            with torch.no_grad():
                self.maps[key] = self.trunk(name, **changes)(self.pixels_BCHW)
        return self.maps[key]

    def grid32(self, name: str, **changes: Any) -> Tensor:
        return self.fused(self.features(name, **changes), 32, 32)


@pytest.fixture(scope="module")
def recorded(golden: Callable) -> Recorded:
    return Recorded(golden("eagle_towers"))


def at(x_BHWD: Tensor, index: Tensor) -> Tensor:
    return x_BHWD[:, index][:, :, index]


def check_tokens(recorded: Recorded, close: Callable, name: str, x_BHWD: Tensor) -> None:
    tokens_BND = x_BHWD.flatten(1, 2)
    close(tokens_BND.mean(-1), recorded.out[f"{name}.token_mean"], f"{name}.token_mean")
    if f"{name}.token_rms" in recorded.out:
        close(tokens_BND.square().mean(-1).sqrt(), recorded.out[f"{name}.token_rms"], f"{name}.token_rms")


def test_pixels(recorded: Recorded, close: Callable) -> None:
    inputs = recorded.case.tensors("inputs")
    close(recorded.pixels_BCHW[:, :, ::64, ::64], inputs["pixel_values.every64"], "pixels")


def test_clip_as_released(recorded: Recorded, close: Callable) -> None:
    seen = {}
    trunk = recorded.trunk("clip")
    model = trunk.vision_model
    model["embeddings"]["patch_embedding"].register_forward_hook(lambda _m, args, _out: seen.update(pixels=args[0]))
    model["pre_layrnorm"].register_forward_hook(lambda _m, _args, out: seen.update(norm=out))
    with torch.no_grad():
        x_BHWD = trunk(recorded.pixels_BCHW)
    index = recorded.out["clip.raw_index"]
    close(seen["pixels"][:, :, ::21, ::21], recorded.out["clip.input336.every21"], "clip.input336.every21")
    close(at(seen["norm"], index), recorded.out["clip.pre_ln24.sub"], "clip.pre_ln24.sub")
    close(at(x_BHWD, index), recorded.out["clip.raw24.sub"], "clip.raw24.sub")
    close(x_BHWD.mean((1, 2)), recorded.out["clip.raw24.channel_mean"], "clip.raw24.channel_mean")
    check_tokens(recorded, close, "clip", recorded.grid32("clip"))


def test_clip_as_the_paper_says(recorded: Recorded, close: Callable) -> None:
    x_BHWD = recorded.features("clip", input_size=448)
    assert x_BHWD.shape[1:3] == (32, 32)
    close(at(x_BHWD, recorded.out["grid_index"]), recorded.out["clip448_variant.sub"], "clip448_variant.sub")
    check_tokens(recorded, close, "clip448_variant", x_BHWD)


@pytest.mark.parametrize("stage", range(4))
def test_convnext(recorded: Recorded, close: Callable, stage: int) -> None:
    sub, index = recorded.out[f"convnext.stage{stage}.sub"], recorded.out[f"convnext.stage{stage}.index"]
    x_BHWD = recorded.features("convnext", features=stage)
    close(at(x_BHWD, index).permute(0, 3, 1, 2), sub, f"convnext.stage{stage}.sub")
    if stage == 3:
        last_BHWD = recorded.features("convnext", features="last")
        assert torch.equal(last_BHWD, x_BHWD)
        check_tokens(recorded, close, "convnext", last_BHWD)


def test_sam(recorded: Recorded, close: Callable) -> None:
    neck_BHWD = recorded.features("sam", unshuffle=1)
    close(at(neck_BHWD, recorded.out["sam.neck_index"]), recorded.out["sam.neck64.sub"], "sam.neck64.sub")
    close(neck_BHWD.mean((1, 2)), recorded.out["sam.neck64.channel_mean"], "sam.neck64.channel_mean")
    check_tokens(recorded, close, "sam", recorded.features("sam"))


def test_sam_with_gradients_takes_the_other_way_to_the_same_numbers(recorded: Recorded, close: Callable) -> None:
    x_BHWD = recorded.trunk("sam")(recorded.pixels_BCHW[:1])
    close(x_BHWD.detach().flatten(1, 2).mean(-1), recorded.out["sam.token_mean"][:1], "sam.token_mean (gradients)")


def test_eva02_det(recorded: Recorded, close: Callable) -> None:
    raw_BHWD = recorded.features("det")
    sub = at(raw_BHWD, recorded.out["det.raw_index"]).permute(0, 3, 1, 2)
    close(sub, recorded.out["det.raw64.sub"], "det.raw64.sub")
    close(raw_BHWD.mean((1, 2)), recorded.out["det.raw64.channel_mean"], "det.raw64.channel_mean")
    check_tokens(recorded, close, "det", recorded.grid32("det"))


def test_eva02_det_with_rounded_tables(recorded: Recorded, close: Callable) -> None:
    config = EncoderConfig.parse({**EAGLE, **recorded.configs["det"], "rope": "stored"})
    trunk = config.trunk(pretrained=False).eval()
    tables = {n: t.bfloat16().float() for n, t in trunk.state_dict().items() if n.startswith("rope_")}
    trunk.load_state_dict({**config.published(recorded.case.weights(PREFIX.format(3))), **tables})
    with torch.no_grad():
        x_BHWD = recorded.fused(trunk(recorded.pixels_BCHW), 32, 32)
    sub = recorded.out["det_rope_bf16_variant.sub"]
    close(at(x_BHWD, recorded.out["grid_index"]), sub, "det_rope_bf16_variant.sub")
    check_tokens(recorded, close, "det_rope_bf16_variant", x_BHWD)


def test_pix2struct(recorded: Recorded, close: Callable) -> None:
    found = flat_patches(recorded.pixels_BCHW, mean=CLIP_MEAN, std=CLIP_STD, patch=16, budget=2048).flatten(1, 2)
    assert found.shape[1] == int(recorded.out["pix2struct.attention_mask.sum"][0])
    rows, places = recorded.out["pix2struct.flattened_patches.rows"], recorded.out["pix2struct.patch_rows"]
    kept = places[places < found.shape[1]]
    close(found[:, kept], rows[:, places < found.shape[1], 2:], "pix2struct.flattened_patches.rows")
    positions = torch.stack([kept // 45 + 1, kept % 45 + 1], -1).float()
    assert torch.equal(rows[0, places < found.shape[1], :2], positions)
    raw_BHWD = recorded.features("pix2struct")
    assert raw_BHWD.shape[1:3] == (45, 45)
    close(at(raw_BHWD, recorded.out["pix2struct.raw_index"]), recorded.out["pix2struct.raw45.sub"], "pix2struct.raw45")
    check_tokens(recorded, close, "pix2struct", recorded.grid32("pix2struct"))


def test_all_five_side_by_side(recorded: Recorded, close: Callable) -> None:
    names = {"clip": {}, "convnext": {"features": "last"}, "sam": {}, "det": {}, "pix2struct": {}}
    x_BHWD = torch.cat([recorded.grid32(name, **changes) for name, changes in names.items()], -1)
    close(at(x_BHWD, recorded.out["grid_index"]), recorded.out["fused.sub"], "fused.sub")
    close(x_BHWD.mean((1, 2)), recorded.out["fused.channel_mean"], "fused.channel_mean")
    close(x_BHWD.abs().mean((1, 2)), recorded.out["fused.channel_absmean"], "fused.channel_absmean")


@pytest.mark.parametrize(("rope", "recording"), [("stored", "stored_tables"), ("computed", "recomputed_tables")])
def test_both_rotary_tables(golden: Callable, close: Callable, rope: str, recording: str) -> None:
    case = golden("eagle_det_rope")
    sizes, out = case.config["towers"]["det"], case.tensors("outputs")
    blocks = set(range(sizes["depth"])) - set(sizes["window_blocks"])
    config = EncoderConfig.parse({
        "kind": "eva02_det", "image_size": 512, "width": sizes["width"], "depth": sizes["depth"],
        "heads": sizes["heads"], "global_blocks": sorted(blocks), "rope": rope,
    })  # fmt: skip
    trunk = config.trunk(pretrained=False).eval()
    trunk.load_state_dict(config.published(case.weights(PREFIX.format(0))))
    pixels_CHW = Preprocess(size=512, mean=CLIP_MEAN, std=CLIP_STD)(case.image(case.config["images"][0]))
    with torch.no_grad():
        x_BHWD = trunk(pixels_CHW[None])
    sub = at(x_BHWD, out["index"]).permute(0, 3, 1, 2)
    close(sub, out[f"{recording}.map.sub"], f"det_rope.{recording}.map.sub")
    close(x_BHWD.mean(-1), out[f"{recording}.map.position_mean"], f"det_rope.{recording}.position_mean")
    close(x_BHWD.mean((1, 2)), out[f"{recording}.map.channel_mean"], f"det_rope.{recording}.channel_mean")
