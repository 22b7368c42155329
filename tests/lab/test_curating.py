"""omma data curate and omma data engine as commands: files in, files and reports out, one line where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from ommatidia.cli import app
from ommatidia.core.errors import ConfigError
from ommatidia.data.synthetic import DrawnWords
from ommatidia.lab.data import curating
from ommatidia.lab.data.curating import curate_file, run_engine


def corpus(folder: Path) -> Path:
    """Twelve images with a question; the last image is one of the benchmark ``words``."""
    records = []
    for number in range(12):
        image = Image.new("RGB", (64, 48), (number * 20, 0, 0))
        if number == 11:
            image = DrawnWords(split="test").open()[0].images[0].open()
        image.save(folder / f"{number}.png")
        turns = [{"from": "human", "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": "red"}]
        records.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    path = folder / "boxes.json"
    path.write_text(json.dumps(records))
    return path


def plan(folder: Path, *operations: Any) -> Path:
    path = folder / "curation.json"
    sources = {"boxes": {"path": str(corpus(folder)), "category": "ocr"}}
    path.write_text(json.dumps({"sources": sources, "operations": list(operations)}))
    return path


def test_a_plan_becomes_a_file_and_a_report(tmp_path: Path) -> None:
    out = tmp_path / "curated.jsonl"
    config = plan(tmp_path, {"kind": "cap", "most": 5}, {"kind": "format_prompts", "others": 3})
    told = curate_file(config, out, changes=["operations.0.most=7"])
    assert len(out.read_text().splitlines()) == 7
    assert told.tables[0][2][1:] == [
        ["cap", "most=7", 12, 5, 0, 7],
        ["format_prompts", told.tables[0][2][2][1], 7, 0, 7, 7],
    ]
    assert all(len(row[1]) < 300 for row in told.tables[0][2])
    assert "| boxes | 12 | 100.00% | 7 | 100.00% | 5 |" in (tmp_path / "curated.jsonl.report.md").read_text()
    assert "<h2>Operations</h2>" in (tmp_path / "curated.jsonl.report.html").read_text()
    printed = CliRunner().invoke(app, ["--json", "data", "curate", str(config), "--out", str(out), "--set", "seed=1"])
    assert printed.exit_code == 0, printed.output
    assert sum(json.loads(printed.stdout)["passages"][-1]["after"].values()) == 5


def test_a_benchmark_is_kept_out_by_name(tmp_path: Path) -> None:
    """Drawn images have no bytes in common with a file of them, but the same look."""
    for pictures, left in (("bytes", 12), ("appearance", 11)):
        config = plan(tmp_path, {"kind": "decontaminate", "benchmarks": ["words"], "pictures": pictures})
        told = curate_file(config, tmp_path / f"{pictures}.jsonl")
        assert sum(told.data["passages"][-1]["after"].values()) == left
    with pytest.raises(ConfigError, match="did you mean 'words'"):
        curate_file(plan(tmp_path, {"kind": "decontaminate", "benchmarks": ["word"]}), tmp_path / "x.jsonl")


def test_what_is_refused(tmp_path: Path) -> None:
    config = plan(tmp_path, "duplicate")
    with pytest.raises(
        ConfigError, match=r"curation\.json: operations\.0: unknown Operation kind .* did you mean 'duplicates'"
    ):
        curate_file(config, tmp_path / "x.jsonl")
    config = plan(tmp_path, "duplicates")
    with pytest.raises(ConfigError, match="is one of the sources; write into another file"):
        curate_file(config, tmp_path / "boxes.json")


def test_the_engine_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(endpoint: Any, prompt: str) -> str:
        return (
            "Birds" if "subfields" in prompt else "Heron" if "topics" in prompt else "Question: A heron?\nAnswer: Yes."
        )

    monkeypatch.setattr(curating.DataEngine.model_fields["writer"].annotation, "endpoint", lambda *_: Answers(answer))
    Image.new("RGB", (80, 80)).save(tmp_path / "h.png")
    section = {"title": "S", "text": "heron " * 60, "images": [{"path": "h.png", "caption": "heron"}]}
    (tmp_path / "d.jsonl").write_text(json.dumps({"id": 1, "title": "Heron", "sections": [section]}))
    config = tmp_path / "engine.json"
    writer = {"url": "http://127.0.0.1:9/v1", "model": "toy"}
    filters = [{"kind": "length"}]
    config.write_text(
        json.dumps({"fields": ["B"], "documents": str(tmp_path / "d.jsonl"), "writer": writer, "filters": filters})
    )
    told = run_engine(config, tmp_path / "w.jsonl")
    assert told.tables[0][2][-1] == ["questions", 1, 0, 1, 0, 0, 0, 0]
    assert told.lines[0] == f"1 records of 1 documents for 1 topics: {tmp_path / 'w.jsonl'}"


class Answers:
    """A model in this process."""

    name = "toy"

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def ask(self, prompt: str) -> str:
        return self._answer(self, prompt)
