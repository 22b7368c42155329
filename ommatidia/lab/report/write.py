"""Writes a report into a folder: report.html, report.md, designs.csv and report.json, each whole or not at all."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import uuid
from pathlib import Path
from typing import Any

from ommatidia.core.errors import RunError
from ommatidia.core.folders import claim_folder, read_seal
from ommatidia.lab.report.html import render_html
from ommatidia.lab.report.markdown import render_markdown
from ommatidia.lab.report.model import Report
from ommatidia.lab.report.table_csv import render_csv

RESULT_FILES = ("report.*", "designs.*", "model", "example.png", "store", "inspect.png", "eval", "look.png", "tracking")
"""What we write into the folder of a result, one by one: the folder is never emptied."""


def claim_results(folder: Path) -> None:
    """Take a folder for results: one that is new, empty, or held results of ours before, with what people added.

    Raises ConfigError for a folder with other files and without a report or model of ours, DiskError.
    """
    claim_folder(folder, ours=RESULT_FILES, with_others=_holds_results(folder))


def _holds_results(folder: Path) -> bool:
    try:
        sealed = read_seal(folder / "model")
        return (sealed is not None and sealed.kind == "model") or bool(_extent(_read(folder / "report.json")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RunError):
        return False


def write_report(report: Report, folder: Path, *, replace: bool = False) -> Path:
    """Render everything, then write it; returns the path of the page.

    Raises RunError when the folder cannot be written, an example's image cannot be read, or the page in place shows
    more than this one would and ``replace`` does not ask for it.
    """
    files = {
        "report.html": render_html(report),
        "report.md": render_markdown(report),
        "designs.csv": render_csv(report),
        "report.json": render_json(report),
    }
    if not replace:
        _keep_more(folder, files["report.json"])
    claim_results(folder)
    try:
        for name, text in files.items():
            _write(folder / name, text)
    except OSError as error:
        raise RunError(f"cannot write the report to {folder}: {error.strerror or error}") from error
    return folder / "report.html"


def _keep_more(folder: Path, text: str) -> None:
    """Raises RunError when the report.json in place shows more than ``text`` does."""
    path = folder / "report.json"
    if not path.is_file():
        return
    ask = f"write to another folder with --out, or add --replace to omma report {json.loads(text)['title']}"
    try:
        before = _extent(_read(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{path}: cannot be read, so what it shows cannot be compared; {ask}") from None
    now = _extent(json.loads(text))
    less = [f"{before[what]} {what}, this one {now[what]}" for what in before if now[what] < before[what]]
    if less:
        raise RunError(f"{path}: the page in place shows {'; '.join(less)}; it was left as it is: {ask}")


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _extent(data: dict[str, Any]) -> dict[str, int]:
    """How much a report shows."""
    finished = [design for design in data["designs"] if design["failed"] is None and design["average"] is not None]
    return {
        "finished designs": len(finished),
        "finished trainings of them": sum(len(design["seeds"]) for design in finished),
        "benchmarks": len({name for design in finished for name in design["scores"]}),
        "analyses": (data["audit"] is not None) + len(data["ablations"]),
        "rows of analyses": sum(len(one["suites"]) for one in data["ablations"])
        + (0 if data["audit"] is None else len(data["audit"]["rows"])),
    }


def render_json(report: Report) -> str:
    """The results as JSON, equal for equal records and nodes; images in base64, a loss that is not finite as null."""
    plain = _plain({name: value for name, value in dataclasses.asdict(report).items() if name != "notes"})
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
