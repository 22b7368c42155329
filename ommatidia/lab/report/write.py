"""Writes a report into a folder: report.html, report.md, designs.csv and report.json, each whole or not at all."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import uuid
from pathlib import Path

from ommatidia.core.errors import RunError
from ommatidia.lab.report.html import render_html
from ommatidia.lab.report.markdown import render_markdown
from ommatidia.lab.report.model import Report
from ommatidia.lab.report.table_csv import render_csv


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        # A lone surrogate (a model may emit one) cannot be encoded; it is shown as a question mark.
        draft.write_bytes(text.encode("utf-8", "replace"))
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
