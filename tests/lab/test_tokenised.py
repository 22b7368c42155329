"""Tokens made beforehand: the examples are exactly those without them, and another model's are refused by name."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from lab_toys import recipe
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from ommatidia.core.config import override
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import Example
from ommatidia.data.mixture import MixtureConfig
from ommatidia.data.tokenised import Tokenised
from ommatidia.lab.data.packing import pack
from ommatidia.lab.recipe import Recipe
from ommatidia.models.processor import Processor

TILED = {"model.tiling": {"kind": "dynamic", "tile": 32, "max_tiles": 3, "tags": "one_d"}}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def equal(a: Example, b: Example) -> bool:
    return all(same(getattr(a, one.name), getattr(b, one.name)) for one in fields(Example))


@pytest.fixture
def design(tmp_path: Path) -> Recipe:
    """Its last stage learns dialogues with one, two and no images, and documents."""
    for number in range(3):
        Image.new("RGB", (40 + 30 * number, 40), (80 * number, 9, 9)).save(tmp_path / f"{number}.png")

    def talk(name: str, question: str, images: list[str]) -> dict[str, Any]:
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": f"Answer {name}."}]
        return {"id": name, "conversations": turns, "images": images}

    talks = [
        talk("one", "<image>\nWhat?", ["0.png"]),
        talk("two", "First <image>, then <image>?", ["2.png", "1.png"]),
        talk("none", "Hello?", []),
        talk("gone", "<image>?", ["9.png"]),
        talk("again", "<image>?", ["1.png"]),
    ]
    (tmp_path / "talk.json").write_text(json.dumps(talks))
    docs = [{"texts": [f"A{k}", None, "B"], "images": [None, f"{k}.png", None]} for k in range(3)]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, docs)))
    data = {
        "sources": {
            "talk": {"source": {"kind": "llava_json", "path": f"{tmp_path}/talk.json"}, "weight": 2},
            "docs": {"source": {"kind": "interleaved", "path": f"{tmp_path}/docs.jsonl"}, "weight": 1},
        },
        "tolerance": 0.2,
    }
    return override(recipe("coarse", "fine"), "stages.2.data", data)


def drawn(processor: Processor, mixture: MixtureConfig, count: int = 18) -> list[Example | str]:
    opened, out = mixture.open(), list[Example | str]()
    for position in range(count):
        try:
            out.append(processor(opened.draw(position, seed=5)))
        except DataError as error:
            out.append(error.cause)
    return out


CROSS = {"model.injection": {"kind": "cross_attention"}}
CHANGES: dict[str, dict[str, Any]] = {"whole": {}, "tiled": TILED, "plain": {"model.chat": "plain"}, "cross": CROSS}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_examples_are_exactly_those_without_the_cache(design: Recipe, tmp_path: Path, changes: dict[str, Any]) -> None:
    for path, value in changes.items():
        design = override(design, path, value)
    told = pack(design, "tune", tmp_path / "tokens", part=2)
    mixture = MixtureConfig.read(told.data["mixture"])
    assert [type(w.source) for w in mixture.sources.values()] == [Tokenised, Tokenised]
    assert (mixture.tolerance, [w.weight for w in mixture.sources.values()]) == (0.2, [2, 1])
    processor = Processor(design.model)
    plain, kept = (drawn(processor, one) for one in (design.stages[2].data, mixture))
    assert sum(isinstance(one, str) for one in plain) == 3
    for a, b in zip(plain, kept, strict=True):
        assert a == b if isinstance(a, str) or isinstance(b, str) else equal(a, b)
    assert mixture.open().draw(1, seed=5).written is not None
    shorter = Processor(design.model, longest=9)
    for a, b in zip(drawn(shorter, design.stages[2].data), drawn(shorter, mixture), strict=True):
        assert a == b if isinstance(a, str) or isinstance(b, str) else equal(a, b)


def test_nothing_is_rendered_again(design: Recipe, tmp_path: Path, monkeypatch: Any) -> None:
    mixture = MixtureConfig.read(pack(design, "tune", tmp_path / "tokens").data["mixture"])
    monkeypatch.setattr("ommatidia.models.language.chat.ChatFormat.render", lambda *_, **__: pytest.fail("rendered"))
    assert isinstance(drawn(Processor(design.model), mixture)[0], Example)


def test_parts_are_safetensors(design: Recipe, tmp_path: Path) -> None:
    pack(design, "tune", tmp_path / "tokens", part=2)
    parts = sorted((tmp_path / "tokens" / "talk").glob("*.safetensors"))
    assert [p.name for p in parts] == [f"part-0000{k}.safetensors" for k in range(3)]
    with safe_open(parts[0], framework="numpy") as file:
        assert file.get_tensor("ends").shape == (2, 8)
        ids = file.get_tensor("ids").tolist()
    one = Processor(design.model)(design.stages[2].data.sources["talk"].source.open()[0])
    assert ids[: len(one.ids)] == one.ids.tolist()


def test_another_models_tokens_are_refused_by_name(design: Recipe, tmp_path: Path) -> None:
    mixture = MixtureConfig.read(pack(design, "tune", tmp_path / "tokens").data["mixture"])
    other = override(override(design, "model.chat", "plain"), "model.tiling", TILED["model.tiling"])
    with pytest.raises(ConfigError, match="for another chat format and another tiling than this model's"):
        drawn(Processor(other.model), mixture)
    wider = override(design, "model.language.width", 64)
    assert isinstance(drawn(Processor(wider.model), mixture)[0], Example)


def test_changed_data_is_refused(design: Recipe, tmp_path: Path) -> None:
    told = pack(design, "tune", tmp_path / "tokens")
    mixture = MixtureConfig.read(told.data["mixture"])
    image = (tmp_path / "0.png").read_bytes()
    Image.new("RGB", (90, 90)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"talk\.json has changed since its tokens were made"):
        mixture.open()
    (tmp_path / "0.png").write_bytes(image)
    mixture.open()
    (tmp_path / "docs.jsonl").write_text('{"texts": ["x"], "images": [null]}')
    with pytest.raises(DataError, match=r"docs\.jsonl has changed since its tokens were made"):
        mixture.open()
    with pytest.raises(ConfigError, match="holds tokens of another fingerprint"):
        pack(design, "tune", tmp_path / "tokens")


def test_packing_goes_on_where_it_stopped(design: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    mixture = MixtureConfig.read(pack(design, "tune", out, part=2).data["mixture"])
    gone, kept = out / "talk" / "part-00001.safetensors", out / "talk" / "part-00000.safetensors"
    data, stamp = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.write_bytes(data[:-9])
    with pytest.raises(DataError, match=r"part-00001\.safetensors: missing or cut off"):
        Tokenised(path=out / "talk").open()
    gone.unlink()
    pack(design, "tune", out, part=2)
    assert gone.read_bytes() == data
    assert kept.stat().st_mtime_ns == stamp
    assert len(mixture.open().sources[0]) == 5
    with pytest.raises(ConfigError, match=r"unknown stage 'tone'; did you mean 'tune'\?"):
        pack(design, "tone", out)


def test_the_command(design: Recipe, tmp_path: Path) -> None:
    from ommatidia import cli

    (tmp_path / "design.yaml").write_text(design.to_yaml())
    line = ["data", "pack", str(tmp_path / "design.yaml"), "--stage", "tune", "--out", str(tmp_path / "t")]
    done = CliRunner().invoke(cli.app, line)
    assert done.exit_code == 0, done.output
    assert "talk: 5 records" in done.stdout
