"""The page of benchmarks is what the registry holds."""

from __future__ import annotations

from pathlib import Path

from published_fixtures import FILES

from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.lab.show.benchmark_page import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_current() -> None:
    written = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m ommatidia.lab.show.benchmark_page docs"


def test_every_benchmark_has_a_row_with_all_cells() -> None:
    rows = {cells[0]: cells for line in page().splitlines() if (cells := line.strip("| ").split(" | "))[0][:1] == "`"}
    assert set(rows) == {f"`{name}`" for name in BENCHMARKS}
    assert all(len(rows[f"`{name}`"]) == 10 and all(rows[f"`{name}`"]) for name in FILES)
    assert "lmms-eval: 16, vqa (textvqa)<br>cambrian: 512, vqa (textvqa)" in rows["`textvqa`"]
