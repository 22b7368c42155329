"""What the catalog's encoders measure, kept as data: running every trunk on the meta device takes minutes.

Configs find their own trunk here by its shape, whatever they are called, so that a study is shown in seconds.
``python -m ommatidia.models.vision.measure_catalog`` writes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ommatidia.core.grid import Cost, Grid

PATH = Path(__file__).with_suffix(".json")


def stored(shape: str) -> tuple[Grid, Cost] | None:
    """Grid and cost of the trunk with this ``shape_digest``, if the file has it."""
    entry = _by_shape().get(shape)
    return None if entry is None else (Grid(*entry["grid"]), Cost(entry["parameters"], entry["flops"]))


@cache
def read_measurements(path: Path = PATH) -> Mapping[str, Mapping[str, Any]]:
    """The file's entries by their name in the catalog; none where there is no file."""
    if not path.is_file():
        return {}
    entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return entries


@cache
def _by_shape() -> Mapping[str, Mapping[str, Any]]:
    return {entry["shape"]: entry for entry in read_measurements().values() if entry["shape"]}
