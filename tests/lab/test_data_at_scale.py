"""Three kinds of data with planted faults, checked and blended: the page docs/data.md through the command line."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ommatidia import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: Any) -> Path:
    """What the first block of the page writes, and the blend of the second."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    exec(blocks[0] + blocks[1].partition("found = []")[0], {})
    return tmp_path


def run(*words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(cli.app, ["--json", "data", *words])
    return done.exit_code, json.loads(done.stdout)


def test_checked_counted_and_blended(files: Path) -> None:
    status, told = run("check", "blend.yaml", "--previews", "pages")
    assert status == 1
    assert told["records"] == {"documents": 9, "pairs": 10, "talk": 7}
    assert told["counts"] == {
        "no text": 2, "wrong index": 1, "layout": 1, "broken image": 1, "roles": 1, "not JSON": 1, "placeholders": 1,
        "duplicate id": 1,
    }  # fmt: skip
    causes = {(p["source"], p["place"].split(" at ")[0]): p["cause"] for p in told["problems"]}
    assert causes["documents", "mmc4.tar, key 3"] == "image_info[0] belongs to sentence 2 of 2; expected 0 to 1"
    assert causes["talk", "line 6"] == "the id of line 1 as well"
    assert all(Path(page).read_text().count("<article>") > 0 for page in told["previews"].values())
    status, counted = run("stats", "blend.yaml")
    assert status == 0
    assert (counted["documents"]["unusable"], counted["pairs"]["unusable"], counted["talk"]["unusable"]) == (2, 2, 3)
    _, shares = run("blend", "blend.yaml", "--samples", "200")
    assert {n: s["drawn"] for n, s in shares["blend"]["sources"].items()} == {"documents": 90, "pairs": 90, "talk": 20}


def test_a_mended_file_is_clean_and_goes_into_shards(files: Path) -> None:
    lines = Path("talk.jsonl").read_text().split("\n")
    Path("mended.jsonl").write_text("\n".join(line for k, line in enumerate(lines) if k in (0, 1, 4)))
    assert run("check", "mended.jsonl")[0] == 0
    status, told = run("shard", "mended.jsonl", "--out", "shards", "--per-shard", "2")
    assert (status, told["samples"], told["shards"]) == (0, 3, 2)
    assert run("check", "shards/shard-000000.tar") == (
        0, {
            "records": {"shard-000000.tar": 2}, "counts": {}, "problems": [], "unread": {"shard-000000.tar": {}},
            "previews": {},
        },
    )  # fmt: skip


def test_too_long_for_a_recipe(files: Path) -> None:
    from lab_toys import recipe

    design = recipe("coarse").to_dict()
    design["model"]["language"]["context"] = 16
    Path("design.yaml").write_text(json.dumps(design))
    turns = [{"from": "human", "value": "Count."}, {"from": "gpt", "value": "one two three " * 9}]
    Path("long.jsonl").write_text(json.dumps({"id": "long", "conversations": turns}) + "\n")
    status, told = run("check", "long.jsonl", "--recipe", "design.yaml", "--previews", "pages")
    assert status == 1
    assert Counter(p["kind"] for p in told["problems"]) == {"too long": 1}
    assert told["problems"][0]["cause"].endswith(" tokens; 16 fit")
    assert "<mark>one two three" in Path(told["previews"]["long.jsonl"]).read_text()
    # A first stage that leaves out what the user says has room for it.
    turns[0]["value"] = "Count, please, as far as you can, and leave nothing out."
    Path("asked.jsonl").write_text(json.dumps({"id": "asked", "conversations": [turns[0], turns[1] | {"value": "1"}]}))
    bare = design["stages"][-1] | {"name": "bare", "chat": {"name": "bare", "end": "<|end|>", "drop_user_text": True}}
    design["stages"].insert(-1, bare)
    Path("design.yaml").write_text(json.dumps(design))
    assert run("check", "asked.jsonl", "--recipe", "design.yaml")[1]["counts"] == {"too long": 1}
    assert run("check", "asked.jsonl", "--recipe", "design.yaml", "--stage", "bare")[0] == 0
