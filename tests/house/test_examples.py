"""The how-to pages work: all ``python`` blocks of a page, run in order in an empty folder, finish without an error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from forked import run

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def program(page: Path) -> str:
    """The page's blocks as one program whose line numbers are the page's, so that a traceback leads to the place."""
    text, lines = page.read_text(encoding="utf-8"), []
    for block in BLOCK.finditer(text):
        lines += [""] * (text.count("\n", 0, block.start(1)) - len(lines))
        lines += block[1].splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("page", [p for p in sorted(DOCS.glob("*.md")) if program(p)], ids=lambda page: page.stem)
def test_page_runs(page, tmp_path):
    # A process of its own: a page may declare kinds, and those must not appear in other tests' families.
    script = tmp_path / f"{page.stem}.py"
    script.write_text(program(page), encoding="utf-8")
    done = run(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
