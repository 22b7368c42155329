"""What every test has: no hub, two threads at most, and a store folder on request."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once


LONGEST = (
    "train/test_rank_options.py", "train/test_ranks.py", "cli/test_ranks.py", "recipes/test_study_twins.py",
    "recipes/test_design_studies.py", "lab/test_kill.py", "lab/test_workers.py", "house/test_examples.py",
    "lab/test_tables.py", "cli/test_cli.py", "lab/test_run.py", "recipes/test_own_data.py",
)  # fmt: skip
"""Files that take longest. They begin first, so that at the end no process waits for another's."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))  # stable: the others keep their order


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep torch to two threads: more of them fight over a small machine. Never imports torch by itself."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 2:
        torch.set_num_threads(2)


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    """An empty folder for a store, gone after the test."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder
