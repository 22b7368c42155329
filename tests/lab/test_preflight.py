"""A search is checked as a whole before its first node: the pool's weights, the saved model, what an audit will ask."""

from __future__ import annotations

import json

import pytest
from lab_toys import COARSE, COMMAND, VIT, recipe_data, singles
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.lab.drive import drive_search
from ommatidia.lab.nodes.store import Store


def refused(search, folder) -> str:
    with pytest.raises((ConfigError, DataError)) as error:
        drive_search(search, Store(folder / "store"), out=folder / "out", command=COMMAND)
    assert not list(folder.glob("store/nodes/*/*"))
    return str(error.value)


def test_every_expert_of_the_pool_is_looked_at(tmp_path):
    lost = {**VIT, "weights": {"kind": "file", "path": str(tmp_path / "vit.pth")}}
    with pytest.raises(ConfigError, match="no such file"):
        drive_search(singles(pool={"lost": lost}), Store(tmp_path / "store"), out=tmp_path / "out", command=COMMAND)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"nothing")
    pool = {"coarse": COARSE, "torn": {**VIT, "weights": {"kind": "file", "path": str(torn)}}}
    assert "encoders.torn: weights: " in refused(singles(pool=pool), tmp_path)


def test_an_audit_that_has_no_images_to_exchange(tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "0.png")
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}]
    (tmp_path / "d.json").write_text(json.dumps([{"id": n, "image": "0.png", "conversations": turns} for n in "ab"]))
    data = recipe_data("coarse")
    data["benchmarks"] = [{**data["benchmarks"][0], "source": {"kind": "llava_json", "path": str(tmp_path / "d.json")}}]
    search = singles(recipe=data).model_copy(update={"analyses": ("audit",)})
    assert "cannot shuffle images: only one distinct set of 1" in refused(search, tmp_path)
