"""What a fusion says about itself for a drawing: boxes from the encoders to the grid that comes out.

The drawing itself is made by the laboratory; here are only the words and which parts learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Tiles = Literal["sum", "channels", "columns", "rows", "enriched", "queries"]
"""What a cell of the fused grid holds: all encoders added up, their channels side by side, one encoder by columns or
by rows, the first encoder's token with something of the others, or a query's answer."""


@dataclass(frozen=True, slots=True)
class Box:
    """One operation: up to three short lines, the first of them its name."""

    name: str
    detail: str = ""
    note: str = ""
    learned: bool = True


@dataclass(frozen=True, slots=True)
class Sketch:
    """A fusion as boxes: one lane for each encoder, the box where the lanes meet, boxes behind it."""

    join: Box
    lanes: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)
    after: tuple[Box, ...] = ()
    tiles: Tiles = "sum"
    passes: str | None = None
    """The encoder whose tokens also go around the box and are added to what comes out of it."""
    steered: str | None = None
    """The encoder into whose first box the others' maps go as well."""
    question: bool = False
    """Whether the user's question goes into the box where the lanes meet."""
