"""The toys of ``tests/lab`` made importable: importlib mode adds no folder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))
