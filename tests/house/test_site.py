"""The documentation site is built from the pages, whole and without another host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def pages(entry: Any) -> list[str]:
    """The files of a navigation."""
    if isinstance(entry, str):
        return [entry]
    inside = entry.values() if isinstance(entry, dict) else entry
    return [page for one in inside for page in pages(one)]


NAV = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip(
        "zensical", reason="the site is built where zensical is installed: pip install 'ommatidia[dev]'"
    )
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "ommatidia"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", folder)
    return folder


def test_every_page_is_in_the_navigation() -> None:
    held = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert held == set(NAV)
    assert len(NAV) == len(set(NAV))


def test_the_site_is_built_whole(copy: Path) -> None:
    done = build(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    site = copy / "build" / "site"
    missing = [page for page in NAV if not (site / page).with_suffix(".html").is_file()]
    assert missing == []
    assert list(site.rglob("search*.json"))
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=\"?(https?://[^\" >]+)", page.read_text("utf-8"))
        assert [url for url in loaded if "canonical" not in url] == [], page
    assert 'id="ommatidia.models.vision.encoder.EncoderConfig"' in (site / "api/encoders.html").read_text("utf-8")


def test_a_link_that_leads_nowhere_is_an_error(copy: Path) -> None:
    page = copy / "docs" / "packing.md"
    text = page.read_text(encoding="utf-8")
    for link in ("[x](nowhere.md)", "[x](data.md#no-such-part)"):
        page.write_text(f"{text}\n{link}\n", encoding="utf-8")
        assert build(copy).returncode != 0
    page.write_text(text, encoding="utf-8")
