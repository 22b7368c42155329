"""The toys of ``tests/lab`` and the launcher of ``tests/train`` made importable: importlib mode adds no folder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("lab", "train")]
