"""What the servers of withheld test splits are sent, from answers alone."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_fixtures import FILES, Row

from ommatidia.eval import BenchmarkConfig, predict
from ommatidia.eval.submission import is_served, write_submission


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def withheld(name: str, usual: str, data: Path, **changes: object) -> BenchmarkConfig:
    """The made-up copy as a test split whose answers nobody has."""
    path, rows = FILES[name]
    listed: list[Row] = [{**row, **changes} for row in rows()]
    file = data / path.replace(f"/{usual}-", "/test-")
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(listed), file)
    return BenchmarkConfig.parse({"kind": name, "data": data, "split": "test", "size": len(listed)})


@pytest.mark.parametrize(
    ("name", "usual", "changes", "said", "wanted"),
    [
        (
            "textvqa", "validation", {"answers": []}, [" stop ", "é ½", ""],
            [{"question_id": 0, "answer": "stop"}, {"question_id": 1, "answer": "é ½"},
             {"question_id": 2, "answer": ""}],
        ),
        (
            "nocaps", "validation", {"annotations_captions": []}, ["a dog", "two dogs", "none"],
            [{"image_id": 10, "caption": "a dog"}, {"image_id": 11, "caption": "two dogs"},
             {"image_id": 12, "caption": "none"}],
        ),
        (
            "mmmu", "validation", {"answer": "?"}, ["(B) the house.", " x is 12."],
            {"validation_Art_1": "B", "validation_Math_2": "x is 12."},
        ),
    ],
)  # fmt: skip
def test_what_is_sent(name, usual, changes, said, wanted, tmp_path):
    benchmark = withheld(name, usual, tmp_path, **changes).open()
    assert is_served(benchmark)
    if name == "nocaps":
        ids = [int(sample.id) for sample in benchmark.samples()]
        wanted = [{**row, "image_id": number} for row, number in zip(wanted, ids, strict=True)]
    place = {sample.id: n for n, sample in enumerate(benchmark.samples())}
    predict(benchmark, lambda prompts: [said[place[prompt.id]] for prompt in prompts], tmp_path / "a.jsonl", model="m")
    done = write_submission(benchmark, tmp_path / "a.jsonl", model="m")
    assert json.loads(done.path.read_text()) == wanted
    assert done.answers == len(said)
