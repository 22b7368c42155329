"""omma data blend: what a mixture or a recipe's stages draw of each source, and how often its records come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ommatidia.core.errors import ConfigError
from ommatidia.data.mixture import MixtureConfig
from ommatidia.lab.data.blending import blend, read_blend


def test_a_mixture_file(tmp_path: Path) -> None:
    for name, size in (("a", 40), ("b", 6)):
        turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]
        lines = [json.dumps({"id": f"{name}{n}", "conversations": turns}) for n in range(size)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sources = {name: {"source": {"kind": "llava_json", "path": str(tmp_path / f"{name}.jsonl")}} for name in "ab"}
    path = tmp_path / "blend.json"
    path.write_text(json.dumps({"sources": sources, "cap": 10}))
    told = blend(read_blend(str(path), [], ["sources.b.epochs=0.5"]), samples=26)
    rows = told.data["blend"]["sources"]
    assert (rows["a"]["records"], rows["a"]["capped"], rows["a"]["offered"]) == (40, 30, 10)
    assert (rows["a"]["drawn"], rows["a"]["epochs"]) == (20, 0.5)
    assert (rows["b"]["drawn"], rows["b"]["epochs"], rows["b"]["capped"]) == (6, 1.0, 0)
    assert told.data["blend"]["epoch"] == 13
    assert told.lines == ["blend: 26 samples; an epoch counts 13; shares are exact over every 13"]


def test_recipes_are_told_stage_by_stage() -> None:
    told = blend(read_blend("ommatidia.recipes.mm1:3b", ["data=nowhere"], []))
    drawn = {name: row["drawn"] for name, row in told.data["pretrain"]["sources"].items()}
    assert drawn == {"captions": 46_080_000, "documents": 46_080_000, "text": 10_240_000}
    assert told.data["pretrain"]["sources"]["text"]["epochs"] is None


def test_manifests() -> None:
    config = read_blend("cambrian_10m:exp5", ["data=nowhere"], [])
    assert isinstance(config, MixtureConfig)
    told = blend(config)
    shares = {row[0]: row[3] for row in told.tables[1][2]}
    assert told.tables[1][0] == "blend by category"
    assert shares["math"] == "7.172%"
    with pytest.raises(ConfigError, match="a manifest takes data=FOLDER, not folder"):
        read_blend("eagle_1_8m", ["folder=x"], [])
    with pytest.raises(ConfigError, match=r"sources\.captions.*|sources\.coco: .* nobody says how many"):
        blend(read_blend("nvlm_pretrain", [], []))
