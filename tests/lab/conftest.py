"""The toys of this folder made importable (importlib mode adds no folder to the path), and one finished search."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "eval"))  # for the made-up copies of published benchmarks

if TYPE_CHECKING:
    from ommatidia.lab.drive import CommandResult
    from ommatidia.lab.nodes.store import Store
    from ommatidia.lab.search import Search


@dataclass(frozen=True)
class Searched:
    """A search that has been carried out: its store, what it delivered and where."""

    search: Search
    store: Store
    out: Path
    driven: CommandResult


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The tiny round robin, carried out once for all tests, which only read it."""
    from lab_toys import COMMAND, round_robin

    from ommatidia.core.console import Console, use
    from ommatidia.lab.drive import drive_search
    from ommatidia.lab.nodes.store import Store

    folder = tmp_path_factory.mktemp("searched")
    search, store = round_robin(), Store(folder / "store")
    with use(Console(quiet=True)):
        driven = drive_search(search, store, out=folder / "out", command=COMMAND)
    return Searched(search, store, folder / "out", driven)
