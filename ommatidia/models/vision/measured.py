"""What the catalog's encoders measure, kept as data: running every trunk on the meta device takes half a minute.

Configs find their own trunk here by its shape, whatever they are called, so that a study is shown in seconds.
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
from ommatidia.models.vision.catalog import CATALOG, Card, lookup
from ommatidia.models.vision.encoder import EncoderConfig, measured_once, shape_digest
from ommatidia.models.vision.neck import NoNeck

PATH = Path(__file__).with_suffix(".json")

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
    entry = _stored().get(name)
    if entry is None or entry["encoder"] != _identity(card):
        return take(card)
    rows, columns = entry["pixels"]
    return Measure((rows, columns), Grid(*entry["grid"]), Cost(entry["parameters"], entry["flops"]))


def take(card: Card) -> Measure:
    """The measure of an entry from its trunk on the meta device; seconds for a large one."""
    return _taken(EncoderConfig.parse(dict(card.encoder)))


def _taken(config: EncoderConfig) -> Measure:
    measured = measured_once(config)
    return Measure(config.preprocess().size, measured.grid, measured.cost + config.neck.cost(measured.grid))


def stored(shape: str) -> tuple[Grid, Cost] | None:
    """Grid and cost of the trunk with this ``shape_digest``, if the file has it."""
    entry = _by_shape().get(shape)
    return None if entry is None else (Grid(*entry["grid"]), Cost(entry["parameters"], entry["flops"]))


def write(path: Path = PATH) -> None:
    """Measure the whole catalog and keep it at ``path``, one entry a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(_entry(card.encoder))}" for name, card in CATALOG.items()]
    lines += [f"{json.dumps(name)}: {json.dumps(_entry(lookup(name)))}" for name in SIZES if _base(name) in CATALOG]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


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


@cache
def _stored() -> Mapping[str, Mapping[str, Any]]:
    if not PATH.is_file():
        return {}
    entries: dict[str, dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))
    return entries


@cache
def _by_shape() -> Mapping[str, Mapping[str, Any]]:
    return {entry["shape"]: entry for entry in _stored().values() if entry["shape"]}


if __name__ == "__main__":
    write()
