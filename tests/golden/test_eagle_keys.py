"""At full size, names and shapes are those of the published checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from ommatidia.models.vision import EncoderConfig

PREFIX = "model.vision_" + "tower.vision_" + "towers.{}.vision_" + "tower."
ROTARY = r"rope_(win|glb)\..*|blocks\.\d+\.attn\.rope\..*"
# Entry of the catalog, place in the X5 checkpoint, published names that have no part in the result.
ENCODERS = (
    ("eagle_clip_448", 0, r"vision_model\.(embeddings\.class_embedding|post_layernorm\.\w+)"),
    ("eagle_convnext_xxl", 1, r"head\..*"),
    ("eagle_sam_l", 2, r"(?!)"),
    ("eagle_eva02_l_det", 3, ROTARY),
    ("eagle_pix2struct_l", 4, r"(?!)"),
)


@pytest.mark.parametrize(("name", "place", "ignored"), ENCODERS)
def test_names_and_shapes(golden: Callable, name: str, place: int, ignored: str) -> None:
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


def test_stored_rotary_tables_have_their_published_place(golden: Callable) -> None:
    prefix = PREFIX.format(3)
    keys = golden("eagle_keys").json("eagle-x5-7b.json")
    theirs = {key[len(prefix) :]: shape for key, shape in keys.items() if key.startswith(prefix)}
    config = EncoderConfig.parse({"kind": "eva02_det", "rope": "stored"})
    with torch.device("meta"):
        ours = {key: list(tensor.shape) for key, tensor in config.trunk(pretrained=False).state_dict().items()}
    copies = {key for key in theirs if re.fullmatch(r"blocks\.\d+\.attn\.rope\..*", key)}
    assert ours == {key: shape for key, shape in theirs.items() if key not in copies}
