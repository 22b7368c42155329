"""Recorded outputs of published implementations: a folder beside the repository, or where OMMATIDIA_GOLDEN says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of all recordings; tests that want it are skipped where it is absent."""
    folder = Path(os.environ.get("OMMATIDIA_GOLDEN") or BESIDE)
    if not folder.is_dir():
        pytest.skip(f"no golden recordings at {folder}; set OMMATIDIA_GOLDEN to their folder")
    return folder
