"""Splits of a LLaVA file: one image is on one side, however records spell it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.data.llava_json import LlavaJSON


def record(number: int, image: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": f"answer {number}"}]
    return {"id": f"r{number}", "image": image, "conversations": turns}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        Image.new("RGB", (8 + number, 8), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def written(folder: Path, records: list[Any], **options: Any) -> LlavaJSON:
    path = folder / "data.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return LlavaJSON(path=path, **options)


SPELLINGS: dict[str, Callable[[Path, str], str]] = {
    "dot": lambda root, name: f"./{name}",
    "absolute": lambda root, name: str(root / name),
    "uri": lambda root, name: f"file://{root / name}",
    "percent-encoded": lambda root, name: (root / name).as_uri().replace(".png", "%2Epng"),
    "uri of this host": lambda root, name: f"file://localhost{root / name}",
    "relative uri": lambda root, name: f"file://{name}",
    "through the parent": lambda root, name: f"../{root.name}/{name}",
    "data": lambda root, name: "data:image/png;base64," + base64.b64encode((root / name).read_bytes()).decode(),
    "copy": lambda root, name: f"copy/{name}",
    "link": lambda root, name: f"link/{name}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_picture_is_on_one_side_however_it_is_spelt(tmp_path: Path, spelling: str) -> None:
    root = tmp_path / "images"
    (root / "copy").mkdir(parents=True)
    (root / "link").symlink_to(root, target_is_directory=True)
    records = []
    for number in range(24):
        name = f"{number}.png"
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(root / name)
        shutil.copy(root / name, root / "copy" / name)
        records += [record(number, image=name), record(number + 100, image=SPELLINGS[spelling](root, name))]
    sides = []
    for split in ("train", "held_out"):
        source = written(tmp_path, records, image_root=root, split=split, holdout=0.3).open()
        sides.append({source[row].images[0].digest for row in range(len(source))})
    assert len(sides[0]) + len(sides[1]) == 24
    assert not sides[0] & sides[1]
    assert len(sides[1]) >= 3


def test_what_is_one_picture_follows_the_files(folder: Path) -> None:
    for number in range(3, 24):
        Image.new("RGB", (8 + number, 8)).save(folder / f"{number}.png")
    source = written(folder, [record(k, image=f"{k}.png") for k in range(24)], split="train", holdout=0.5)
    before = source.fingerprint()
    for number in range(1, 24, 2):  # every other image becomes the one before it
        shutil.copy(folder / f"{number - 1}.png", folder / f"{number}.png")
    assert source.fingerprint() != before
    opened = source.open()
    rows = {int(opened[row].id[1:]) for row in range(len(opened))}
    assert 0 < len(rows) < 24
    assert rows == {row ^ 1 for row in rows}
