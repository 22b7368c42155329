"""What the catalog's encoders measure, kept as data: running every trunk on the meta device takes half a minute.

``python -m ommatidia.models.vision.measured`` writes the file anew; do so when a catalog entry is added or changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ommatidia.core.config import digest
from ommatidia.core.grid import Cost, Grid
from ommatidia.models.vision.catalog import CATALOG, Card
from ommatidia.models.vision.encoder import EncoderConfig

PATH = Path(__file__).with_suffix(".json")


@dataclass(frozen=True, slots=True)
class Measure:
    """One catalog entry: pixels (rows, columns), the trunk's grid, and the cost of trunk and neck for one view."""

    pixels: tuple[int, int]
    grid: Grid
    cost: Cost

    @property
    def stride(self) -> float:
        """Pixels from one row of the grid to the next; a rest at the border that no row sees is left out."""
        rows, height = self.pixels[0], self.grid.height
        return rows // height if rows // (rows // height) == height else round(rows / height, 2)


def known(name: str, card: Card) -> Measure:
    """The measure of the catalog's entry ``name``: read if it was taken of this very encoder, else taken now."""
    entry = _stored().get(name)
    if entry is None or entry["encoder"] != _identity(card):
        return take(card)
    rows, columns = entry["pixels"]
    return Measure((rows, columns), Grid(*entry["grid"]), Cost(entry["parameters"], entry["flops"]))


def take(card: Card) -> Measure:
    """The measure of an entry from its trunk on the meta device; seconds for a large one."""
    config = EncoderConfig.parse(dict(card.encoder))
    return Measure(config.preprocess().size, config.trunk_grid(), config.cost())


def write(path: Path = PATH) -> None:
    """Measure the whole catalog and keep it at ``path``, one entry a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(_entry(card))}" for name, card in CATALOG.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _entry(card: Card) -> dict[str, Any]:
    taken = take(card)
    return {
        "encoder": _identity(card),
        "pixels": list(taken.pixels),
        "grid": [taken.grid.height, taken.grid.width, taken.grid.dim],
        "parameters": taken.cost.parameters,
        "flops": taken.cost.flops,
    }


def _identity(card: Card) -> str:
    return digest(dict(card.encoder))


@cache
def _stored() -> Mapping[str, Mapping[str, Any]]:
    if not PATH.is_file():
        return {}
    entries: dict[str, dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))
    return entries


if __name__ == "__main__":
    write()
