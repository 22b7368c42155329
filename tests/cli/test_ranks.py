"""The command line under a launcher: two ranks search as one process does, and one of them does what is for one."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import ranks
from lab_toys import singles

from ommatidia import cli
from ommatidia.core import malloc
from ommatidia.core.console import Console, use
from ommatidia.lab.drive import drive_search
from ommatidia.lab.nodes.store import Store

LAUNCHER = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two ranks have carried out a tiny search; what they said lies beside it."""
    place = tmp_path_factory.mktemp("two")
    (place / "search.yaml").write_text(singles().to_yaml())
    first, second = ranks(2, "-m", "ommatidia.cli", "search", "search.yaml", "--store", "kept", "--json", cwd=place)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert second.stdout == ""
    (place / "said.json").write_text(first.stdout)
    return place


def test_two_ranks_search_as_one_process_does(folder: Path, tmp_path: Path) -> None:
    said: dict[str, Any] = json.loads((folder / "said.json").read_text())
    with use(Console(quiet=True)):
        alone = drive_search(singles(), Store(tmp_path / "kept"), out=tmp_path / "out", command="omma search").data
    for field in ("best", "executed", "reused", "failed", "flops", "trials"):
        assert said[field] == alone[field], field
    assert len(said["trials"]) == 2
    assert designs(folder / "runs" / "singles") == designs(tmp_path / "out")


def designs(report: Path) -> list[dict[str, str]]:
    """The report's table, without what differs from one day to the next."""
    with (report / "designs.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("train_seconds", "command")} for row in csv.DictReader(file)]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_work_of_one_process_is_rank_0s(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    monkeypatch.setattr(malloc, "keep_memory", lambda: False)
    monkeypatch.chdir(folder)
    for name, value in {**LAUNCHER, "RANK": str(rank), "LOCAL_RANK": str(rank)}.items():
        monkeypatch.setenv(name, value)
    out = folder / f"by {rank}"
    evaluate = [
        "eval",
        "runs/singles/model",
        "--benchmarks",
        "counts",
        "--limit",
        "1",
        "--no-blind",
        "--out",
        str(out / "eval"),
    ]
    for arguments in (evaluate, ["report", "singles", "--store", "kept", "--out", str(out)]):
        monkeypatch.setattr(sys, "argv", ["omma", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        assert not end.value.code
        if rank:
            assert (said.out, said.err) == ("", "")
        else:
            assert f"omma {arguments[0]} is the work of one process: rank 0 does it" in " ".join(said.err.split())
            assert said.out
    assert out.exists() == (rank == 0)
