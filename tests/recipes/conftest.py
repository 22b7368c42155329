"""A data set of a person's own, small and sound until a test spoils it, and the command line called in this process."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

Record = dict[str, Any]
Spoil = Callable[[Path, list[Record]], None]

LLAVA = "ommatidia.recipes.own_data:llava"
SMALL = {"experts": "patches@32", "grid": 2, "steps": 8, "batch": 2, "holdout": 0.3}


@dataclass(frozen=True, slots=True)
class Said:
    """What a command left: its exit status, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that starts with ``error:``, with the problems listed below it; more or fewer are a failure."""
        lines = self.err.splitlines()
        starts = [n for n, line in enumerate(lines) if line.startswith("error:")]
        assert len(starts) == 1, self.err
        assert "Traceback" not in self.err
        listed = itertools.takewhile(lambda line: line.startswith("  "), lines[starts[0] + 1 :])
        return "\n".join([lines[starts[0]], *listed])

    def data(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def omma(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``omma`` with these arguments."""

    def call(*arguments: object) -> Said:
        from ommatidia.cli import main

        monkeypatch.setattr("sys.argv", ["omma", *map(str, arguments)])
        code, out, err = 0, io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def run_own(omma: Command, tmp_path: Path) -> Command:
    """``omma run`` of the recipe on a data set; keywords are its arguments, ``sets`` go to ``--set``."""

    def call(data: Path, *options: object, sets: tuple[str, ...] = (), store: object = None, **given: object) -> Said:
        arguments = [f"{name}={value}" for name, value in {**SMALL, **given}.items()]
        places = ["--store", store or tmp_path / "store", "--out", tmp_path / "out"]
        changes = [part for change in sets for part in ("--set", change)]
        return omma("--quiet", "run", LLAVA, f"data={data}", *arguments, *changes, *places, *options)

    return call


@pytest.fixture
def own_data(tmp_path: Path) -> Callable[..., Path]:
    """Twelve images and questions as a LLaVA-format file, after ``spoil`` has had its way with them."""

    def make(spoil: Spoil | None = None) -> Path:
        return write_data(tmp_path / "mine", spoil)

    return make


def write_data(folder: Path, spoil: Spoil | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    records: list[Record] = []
    for number in range(12):
        colour = ("red", "blue")[number % 2]
        picture = Image.new("RGB", (20 + number, 20), "white")
        ImageDraw.Draw(picture).rectangle([3, 3, 12, 12], fill=colour)
        picture.save(folder / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nWhat colour is it?"}, {"from": "gpt", "value": colour}]
        records.append({"id": f"s{number}", "image": f"{number}.png", "conversations": turns})
    if spoil:
        spoil(folder, records)
    path = folder / "mine.json"
    path.write_text(json.dumps(records))
    return path
