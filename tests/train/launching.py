"""Starts programs as two ranks of one machine, as ``torchrun`` does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_PATH = [Path(__file__).parents[2], Path(__file__).parents[1] / "models"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, _PATH))}


def launched(*program: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Both ranks to their end: what they said and the launcher's exit code. ``program`` may begin with ``-m``."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launch, *program], env=ENVIRONMENT, text=True, capture_output=True, timeout=240, cwd=cwd, check=False
    )
