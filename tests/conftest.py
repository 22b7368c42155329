"""What every test has: no hub, two threads at most, ``forked`` to import, and a store folder on request."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode adds no folder
if "OMMATIDIA_CACHE" not in os.environ:  # what is remembered of files; programs that tests start share it
    os.environ["OMMATIDIA_CACHE"] = tempfile.mkdtemp(prefix="ommatidia-tests-")
    atexit.register(shutil.rmtree, os.environ["OMMATIDIA_CACHE"], ignore_errors=True)
os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once


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
