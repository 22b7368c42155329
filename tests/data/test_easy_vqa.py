"""easy-VQA as the package ships it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.data import easy_vqa
from ommatidia.data.easy_vqa import EasyVQA

installed = pytest.mark.skipif(importlib.util.find_spec("easy_vqa") is None, reason="easy-vqa is not installed")


@installed
def test_the_whole_of_it() -> None:
    train, test = EasyVQA().open(), EasyVQA(split="test").open()
    assert (len(train), len(test)) == (38_575, 9_673)
    assert sum(1 for _ in test.pictures()) == 1_000
    for index in (0, 5_000, 9_672):
        sample = test[index]
        assert sample.answer in sample.meta["options"]
        assert sample.meta["group"] == "general"
        assert sample.images[0].open().size == (64, 64)
        assert sample.meta["cluster"] == sample.images[0].digest
    assert (
        len({p.digest for p in test.pictures()} | {p.digest for p in EasyVQA(pictures=1000).open().pictures()}) == 2_000
    )


@installed
def test_limits() -> None:
    source = EasyVQA(pictures=50, per_picture=3).open()
    samples = [source[index] for index in range(len(source))]
    assert len(samples) == 150
    assert len({sample.meta["cluster"] for sample in samples}) == 50
    assert len({sample.id for sample in samples}) == 150
    for begin in range(0, 150, 3):
        assert len({s.question for s in samples[begin : begin + 3]}) == 3
    assert {sample.meta["variant"] for sample in samples} == {"colour", "form", "present"}
    assert EasyVQA(pictures=50).fingerprint() != EasyVQA(pictures=51).fingerprint()
    with pytest.raises(IndexError):
        source[150]


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(easy_vqa.importlib.util, "find_spec", lambda name: None)
    for act in (EasyVQA().open, EasyVQA().fingerprint):
        with pytest.raises(ConfigError, match="needs the package easy-vqa: pip install"):
            act()


@pytest.mark.parametrize("content", [None, "[[1, 2", json.dumps([["only", "two"]])])
def test_broken_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None) -> None:
    (tmp_path / "train").mkdir()
    if content is not None:
        (tmp_path / "train" / "questions.json").write_text(content)
    monkeypatch.setattr(easy_vqa, "data_folder", lambda: tmp_path)
    with pytest.raises(DataError, match=r"questions\.json"):
        EasyVQA().open()
