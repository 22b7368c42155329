"""Measures the catalog's encoders and keeps the numbers: ``python -m ommatidia.models.vision.measure_catalog [--all]``.

Run it when a catalog entry is added or changed: entries that are kept under the same config are not measured again.
``--all`` measures every one, for when a family's code has changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ommatidia.core.config import digest
from ommatidia.core.console import console
from ommatidia.core.grid import Cost, Grid
from ommatidia.models.vision.catalog import CATALOG, Card, lookup
from ommatidia.models.vision.encoder import EncoderConfig, shape_and_cost, shape_digest
from ommatidia.models.vision.measurements import PATH, read_measurements
from ommatidia.models.vision.neck import NoNeck

SIZES = (
    "dinov2_g@378", "dfn_clip_h_14_378@672", "convnext_l_1024_multi@768", "convnext_l_1024_multi@1536",
    "convnext_l_1024@512", "dinov2_l@336", "dinov2_l@448",
    "efficientnet_lite0@128", "efficientnet_lite0@64", "efficientnet_lite2@128", "craft@64", "vit_tiny_untrained@128",
    "eagle_clip_336@384", "convnext_l_1024@384",
)  # fmt: skip
"""Entries at other sizes than their own that the studies' recipes use, and the quickstart."""


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
    entry = read_measurements().get(name)
    if entry is None or entry["encoder"] != _identity(card):
        return take(card)
    rows, columns = entry["pixels"]
    return Measure((rows, columns), Grid(*entry["grid"]), Cost(entry["parameters"], entry["flops"]))


def take(card: Card) -> Measure:
    """The measure of an entry from its trunk on the meta device; seconds for a large one."""
    return _taken(EncoderConfig.parse(dict(card.encoder)))


def _taken(config: EncoderConfig) -> Measure:
    measured = shape_and_cost(config)
    return Measure(config.preprocess().size, measured.grid, measured.cost + config.neck.cost(measured.grid))


def write(path: Path = PATH, *, everything: bool = False) -> list[str]:
    """Keep the whole catalog's measures at ``path``, one entry a line; the names of those that were measured now.

    An entry that the file has of the very same encoder is kept, unless ``everything`` is to be measured.
    """
    before = {} if everything else read_measurements(path)
    encoders = {name: card.encoder for name, card in CATALOG.items()}
    encoders |= {name: lookup(name) for name in SIZES if _base(name) in CATALOG}
    entries, new = {}, []
    for name, encoder in encoders.items():
        kept = before.get(name)
        if kept is None or kept["encoder"] != digest(dict(encoder)):
            new.append(name)
            kept = _entry(encoder)
        entries[name] = kept
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    read_measurements.cache_clear()
    return new


def _base(name: str) -> str:
    return name.partition("@")[0]


def _entry(encoder: Mapping[str, Any]) -> dict[str, Any]:
    config = EncoderConfig.parse(dict(encoder))
    taken = _taken(config)
    return {
        "encoder": digest(dict(encoder)),
        "shape": shape_digest(config) if isinstance(config.neck, NoNeck) else None,
        "pixels": list(taken.pixels),
        "grid": [taken.grid.height, taken.grid.width, taken.grid.dim],
        "parameters": taken.cost.parameters,
        "flops": taken.cost.flops,
    }


def _identity(card: Card) -> str:
    return digest(dict(card.encoder))


if __name__ == "__main__":
    for name in write(everything="--all" in sys.argv[1:]):
        console().say(f"measured: {name}")
