"""Writes a report into a folder: report.html, report.md, designs.csv and report.json, each whole or not at all."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import tempfile
from pathlib import Path

from ommatidia.core.errors import RunError
from ommatidia.core.folders import claim_folder
from ommatidia.lab.report.html import render_html
from ommatidia.lab.report.markdown import render_markdown
from ommatidia.lab.report.model import Report
from ommatidia.lab.report.table_csv import render_csv

RESULT_FILES = ("report.*", "designs.*", "model", "example.png", "store", "inspect.png", "eval", "look.png")
"""What we write into the folder of a result: another file there is somebody else's, and the folder is refused."""


def write_report(report: Report, folder: Path) -> Path:
    """Render everything, then write it; returns the path of the page.

    Raises RunError when the folder cannot be written or an example's picture cannot be read.
    """
    files = {
        "report.html": render_html(report),
        "report.md": render_markdown(report),
        "designs.csv": render_csv(report),
        "report.json": render_json(report),
    }
    claim_folder(folder, ours=RESULT_FILES)
    try:
        for name, text in files.items():
            _write(folder / name, text)
    except OSError as error:
        raise RunError(f"cannot write the report to {folder}: {error.strerror or error}") from error
    return folder / "report.html"


def render_json(report: Report) -> str:
    """The whole value as JSON; pictures in base64, a loss that is not finite as null."""
    plain = _plain(dataclasses.asdict(report))
    return json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write(path: Path, text: str) -> None:
    """Through a temporary file in the same folder, so that a reader never sees half a report."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            # A lone surrogate (a model may emit one) cannot be encoded; it is shown as a question mark.
            file.write(text.encode("utf-8", "replace").decode("utf-8"))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
