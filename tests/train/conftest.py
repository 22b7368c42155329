"""Lets the tests of this folder import ``train_toy`` and ``model_toys``: pytest's importlib mode adds no folder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "models")]
