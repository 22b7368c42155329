"""Provenance: the versions and the machine that made a result."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import ommatidia


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Versions and machine that made a node."""
    return {
        "ommatidia": ommatidia.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _commit() -> str | None:
    """The commit of the checkout the package runs from; None when it is installed from a wheel."""
    folder = Path(ommatidia.__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
