"""Benchmarks read from the files of their first release ask exactly what their copies on the hub ask."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from published_fixtures import KEPT, mmmu, write
from release_fixtures import RELEASES

from ommatidia.core.errors import DataError
from ommatidia.eval import Benchmark, BenchmarkConfig
from ommatidia.eval.benchmarks.releases.diagrams import MMMU
from ommatidia.eval.named_benchmarks import BENCHMARKS


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def released(name: str, data: Path, size: int | None = None, **fields: object) -> BenchmarkConfig:
    config = BenchmarkConfig.parse({**BENCHMARKS[name], "data": data, "size": size, **fields})
    root = config.root()  # type: ignore[attr-defined]
    if not root.exists():
        RELEASES[name](root)
    return config


def asked(benchmark: Benchmark) -> list[tuple[object, ...]]:
    """All that matters of every question: words, references, what the scorer reads, and the images' pixels."""
    found = []
    for _, sample in benchmark.readable():
        assert not isinstance(sample, DataError), sample
        pixels = [np.asarray(picture.open()).tobytes() for picture in sample.images]
        meta = {k: v for k, v in sample.meta.items() if k != "cluster"}
        found.append((sample.question, sample.answer, json.dumps(meta, sort_keys=True, default=str), *pixels))
    return sorted(found, key=repr)


@pytest.mark.parametrize("name", RELEASES)
def test_the_release_asks_what_the_copy_asks(name, tmp_path):
    size = write(name, tmp_path / "hub")
    copy = BenchmarkConfig.parse({**BENCHMARKS[name], "data": tmp_path / "hub", "size": size}).open()
    config = released(name, tmp_path / "first", size)
    assert config.released()  # type: ignore[attr-defined]
    assert asked(config.open()) == asked(copy)
    assert len({sample.id for _, sample in config.open().readable()}) == size  # type: ignore[union-attr]
    assert config.fingerprint() != copy.config.fingerprint()  # other files
    assert config.fingerprint() == released(name, tmp_path / "first", size).fingerprint()


def test_the_copy_of_the_hub_goes_first(tmp_path):
    size = write("pope", tmp_path)
    RELEASES["pope"](tmp_path / "POPE")
    config = BenchmarkConfig.parse({**BENCHMARKS["pope"], "data": tmp_path, "size": size})
    assert not config.released()  # type: ignore[attr-defined]
    assert config.open().samples()


def test_cv_bench_in_lines(tmp_path):
    root = tmp_path / "CV-Bench"
    (root / "img").mkdir(parents=True)
    from published_fixtures import cv_bench_2d

    with (root / "test_2d.jsonl").open("w") as file:
        for row in cv_bench_2d():
            place = root / row["filename"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(row.pop("image")["bytes"])
            file.write(json.dumps(row) + "\n")
    config = BenchmarkConfig.parse({**BENCHMARKS["cv_bench_2d"], "data": tmp_path, "size": 3})
    assert [sample.images[0].open().size for sample in config.open().samples()] == [(24, 16)] * 3


def test_wrong_releases_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"or the release's own coco_pope_adversarial.json or coco/coco_pope_adv"):
        BenchmarkConfig.parse({**BENCHMARKS["pope"], "data": tmp_path}).open()
    with pytest.raises(DataError, match=r"12 rows in the split 'test', expected 9000; set size=12"):
        released("pope", tmp_path).open()
    with pytest.raises(DataError, match="3 rows in the split 'test', expected 1000"):
        released("flickr30k", tmp_path).open()  # Karpathy's split, not the whole set
    (tmp_path / "POPE/coco_pope_random.json").unlink()  # half a release is none
    with pytest.raises(DataError, match="or the release's own"):
        released("pope", tmp_path, 8).open()
    config = released("seed", tmp_path, KEPT["seed"])
    (tmp_path / "SEED-Bench/SEED-Bench.json").write_text('{"question": []}')
    with pytest.raises(DataError, match=r"SEED-Bench.json: not in the form of the release \(KeyError: 'questions'\)"):
        config.open()
    (tmp_path / "SEED-Bench/SEED-Bench.json").write_text("{")
    with pytest.raises(DataError, match="not in the form of the release"):
        config.open()


def test_a_missing_picture_is_said_with_its_sample(tmp_path):
    config = released("mm_vet", tmp_path, 3)
    (tmp_path / "MMVet/images/v1_1.png").unlink()
    broken = [one for _, one in config.open().readable() if isinstance(one, DataError)]
    assert len(broken) == 1
    assert "v1_1.png: no such image file" in str(broken[0])
    torn = released("mme", tmp_path, 8)
    (tmp_path / "MME/OCR/2.txt").write_text("Is there a word?\tMaybe\n")
    with pytest.raises(DataError, match="expected a question, a tab, and Yes or No"):
        torn.open()


def test_a_thousand_digits_and_unicode_survive(tmp_path):
    config = released("docvqa", tmp_path, 2)
    file = tmp_path / "DocVQA/val/val_v1.0.json"
    data = json.loads(file.read_text())
    data["data"][0]["answers"] = ["ⅩⅣ ½ «été»", "9" * 1000]
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    sample = config.open().samples()[0]
    assert sample.meta["references"] == ("ⅩⅣ ½ «été»", "9" * 1000)


def test_a_diagram_asked_about_its_letters_has_letters(tmp_path):
    config = released("ai2d", tmp_path, 5)
    folder = tmp_path / "ai2d/ai2d"
    asked = json.loads((folder / "questions/9.png.json").read_text())
    common = {"answerTexts": ["bud", "leaf"], "correctAnswer": 1, "questionId": "9.png-1"}
    asked["questions"]["What is A?"] = {**common, "abcLabel": True}
    (folder / "questions/9.png.json").write_text(json.dumps(asked))
    covered = {"T0": {"rectangle": [[2, 3], [14, 13]], "replacementText": "A", "value": "leaf"}}
    (folder / "annotations/9.png.json").write_text(json.dumps({"text": covered}))
    plain, lettered = (sample.images[0] for sample in config.open().samples()[1:3])
    before, after = np.asarray(plain.open()), np.asarray(lettered.open())
    assert plain.digest != lettered.digest
    assert lettered.size() == plain.size() == (16, 24)
    box = after[3:14, 2:15]
    assert (box[0] == 255).all()  # the white ground
    assert box.min() < 90  # the letter
    changed = (before != after).any(axis=-1)
    changed[3:14, 2:15] = False
    assert not changed.any()
    first = config.fingerprint()
    covered["T0"]["replacementText"] = "B"
    (folder / "annotations/9.png.json").write_text(json.dumps({"text": covered}))
    assert config.fingerprint() != first
    assert config.open().samples()[2].images[0].digest != lettered.digest
    (folder / "images/9.png").unlink()
    with pytest.raises(DataError, match=r"9\.png: no such image file"):
        config.open().samples()[2]
    (folder / "annotations/9.png.json").write_text(json.dumps({"text": {"T0": {"rectangle": [1, 2]}}}))
    with pytest.raises(DataError, match="not in the form of the release"):
        config.open()


def test_mmmu_as_a_table_for_each_subject(tmp_path):
    choice, opened = mmmu()
    for n, name in enumerate(MMMU.files["validation"]):
        subject = name.partition("/")[0]
        row = {**(opened if subject == "Math" else choice), "id": f"validation_{subject}_{n}"}
        (tmp_path / "MMMU" / subject).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "MMMU" / name)
    config = BenchmarkConfig.parse({**BENCHMARKS["mmmu"], "data": tmp_path, "size": 30})
    samples = {sample.meta["task"]: sample for sample in config.open().samples()}
    assert len(samples) == 30
    assert samples["Math"].meta["references"] == ("12", "12.0")
    assert [picture.open().size for picture in samples["Art_Theory"].images] == [(24, 16)] * 2
    (tmp_path / "MMMU/Math/validation-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"Accounting/validation-00000-of-00001\.parquet, .*and so on, 30 files"):
        config.open()


def test_lines_may_hold_line_separators(tmp_path):
    row = {"question": "One line\u2028or two?", "answer": "yes", "image": "1.png"}
    root = tmp_path / "RealWorldQA"
    root.mkdir()
    Image.new("RGB", (8, 8)).save(root / "1.png")
    (root / "test.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n\n", encoding="utf-8")
    config = BenchmarkConfig.parse({**BENCHMARKS["realworldqa"], "data": tmp_path, "size": 1})
    assert config.open().samples()[0].question.endswith("One line\u2028or two?")
    (root / "test.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"test\.jsonl: cannot be read"):
        config.open()
