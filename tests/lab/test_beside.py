"""Side by side: each sample on which two designs differ is on the page once, on its side, and nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab_toys import benchmark

from ommatidia.core.errors import RunError
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.evaluate import predict
from ommatidia.lab.analysis.beside import beside


@pytest.fixture
def opened():
    return BenchmarkConfig.parse(benchmark("attributes", "general")).open()


def answered(opened, path: Path, right: set[int], wrong: str = "<b>no & never</b>") -> Path:
    truth = {s.id: (s.answer if n in right else wrong) for n, s in enumerate(opened.samples())}
    predict(opened, lambda prompts: [truth[p.id] for p in prompts], path, model=path.stem)
    return path


def test_every_difference_is_on_its_side(opened, tmp_path):
    total = len(opened.samples())
    first = answered(opened, tmp_path / "a.jsonl", {0, 1, 2, 3})
    second = answered(opened, tmp_path / "b.jsonl", {3, 4})
    told = beside(opened, (first, second), ("Eagle", "Cambrian"), out=tmp_path / "page.html")
    ids = [s.id for s in opened.samples()]
    assert told.data["better"] == {"Eagle": ids[:3], "Cambrian": [ids[4]]}
    assert told.data["equal"] == total - 4
    assert told.data["difference"] == pytest.approx(2 / total)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<article>") == 4
    assert "3 of 3 shown" in page
    assert "&lt;b&gt;no &amp; never&lt;/b&gt;" in page
    assert "<b>no" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("data:image/png;base64,") == 4


def test_a_long_list_says_how_much_is_shown(opened, tmp_path):
    first = answered(opened, tmp_path / "a.jsonl", set(range(6)))
    second = answered(opened, tmp_path / "b.jsonl", set())
    beside(opened, (first, second), ("x", "y"), out=tmp_path / "page.html", most=2)
    page = (tmp_path / "page.html").read_text()
    assert "2 of 6 shown" in page
    assert "None." in page


def test_answers_to_another_benchmark_are_refused(opened, tmp_path):
    other = BenchmarkConfig.parse(benchmark("counts", "general")).open()
    first = answered(opened, tmp_path / "a.jsonl", {0})
    second = answered(other, tmp_path / "b.jsonl", {0})
    with pytest.raises(RunError, match="answers of benchmark 'counts', expected 'attributes'"):
        beside(opened, (first, second), ("x", "y"), out=tmp_path / "page.html")
