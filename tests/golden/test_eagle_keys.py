"""At full size, names and shapes are those of the published checkpoint, and so are the parameter counts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
import torch

from ommatidia.models.vision import EncoderConfig

PREFIX = "model.vision_" + "tower.vision_" + "towers.{}.vision_" + "tower."
ROTARY = r"rope_(win|glb)\..*|blocks\.\d+\.attn\.rope\..*"
# Entry of the catalog, place in the X5 checkpoint, published names that have no part in the result, parameters.
ENCODERS = (
    ("eagle_clip_448", 0, r"vision_model\.(embeddings\.class_embedding|post_layernorm\.\w+)", 303_507_456 - 3 * 1024),
    ("eagle_convnext_xxl", 1, r"head\..*", 846_471_016 - 2 * 3072 - 1000 * 3073),
    ("eagle_sam_l", 2, r"(?!)", 307_687_936),
    ("eagle_eva02_l_det", 3, ROTARY, 303_388_608),
    ("eagle_pix2struct_l", 4, r"(?!)", 512_812_032),
)


@pytest.mark.parametrize(("name", "place", "ignored", "parameters"), ENCODERS)
def test_names_and_shapes(golden: Callable, name: str, place: int, ignored: str, parameters: int) -> None:
    prefix = PREFIX.format(place)
    keys = golden("eagle_keys").json("eagle-x5-7b.json")
    theirs = {key[len(prefix) :]: shape for key, shape in keys.items() if key.startswith(prefix)}
    config = EncoderConfig.parse(name)
    with torch.device("meta"):
        trunk = config.trunk(pretrained=False)
        state = {key: torch.empty(shape) for key, shape in theirs.items()}
    ours = {key: list(tensor.shape) for key, tensor in trunk.state_dict().items()}
    assert {key: list(tensor.shape) for key, tensor in config.published(state).items()} == ours
    left = {key for key in theirs if re.fullmatch(ignored, key)}
    assert len(ours) == len(theirs) - len(left)
    assert sum(p.numel() for p in trunk.parameters()) == parameters


def test_stored_rotary_tables_have_their_published_place(golden: Callable) -> None:
    prefix = PREFIX.format(3)
    keys = golden("eagle_keys").json("eagle-x5-7b.json")
    theirs = {key[len(prefix) :]: shape for key, shape in keys.items() if key.startswith(prefix)}
    config = EncoderConfig.parse({"kind": "eva02_det", "rope": "stored"})
    with torch.device("meta"):
        ours = {key: list(tensor.shape) for key, tensor in config.trunk(pretrained=False).state_dict().items()}
    copies = {key for key in theirs if re.fullmatch(r"blocks\.\d+\.attn\.rope\..*", key)}
    assert ours == {key: shape for key, shape in theirs.items() if key not in copies}


@pytest.mark.parametrize(
    ("name", "gflop"),
    [("eagle_clip_336", 381), ("eagle_clip_448", 723), ("eagle_convnext_xxl", 6335), ("eagle_sam_l", 2981),
     ("eagle_eva02_l_det", 3098), ("eagle_pix2struct_l", 2513)],
)  # fmt: skip
def test_operations(name: str, gflop: float) -> None:
    """Operations of one picture as counted from the published implementation, within 3 %."""
    began = time.perf_counter()
    assert EncoderConfig.parse(name).trunk_cost().flops / 1e9 == pytest.approx(gflop, rel=0.03)
    assert time.perf_counter() - began < 10
