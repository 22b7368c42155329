"""The price tables of docs/studies/*.md: what every recipe and comparison of a study costs on eight H100.

``python -m ommatidia.lab.show.study_page docs/studies`` writes the tables anew, between the marks that hold them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ommatidia.core.config import Config
from ommatidia.lab.price.hardware import Machine, machine_named
from ommatidia.lab.recipe import Recipe, read
from ommatidia.lab.show.pricing import price_tables

WORLD = 8
_MARKED = re.compile(r"(<!-- prices: (?P<names>[^>]+) -->\n).*?(<!-- /prices -->)", re.DOTALL)
_HEAD = (
    "| Recipe | Designs | Tokens in the text | GB a GPU, as written | Fits | H100-hours |\n|---|---|---|---|---|---|\n"
)


def machine() -> Machine:
    """Eight H100 at 40 % of their peak."""
    named = machine_named("h100", world=WORLD)
    assert named is not None
    return named


def row(reference: str) -> str:
    """One line of a table. Trainings that designs share are counted once; memory is that of the stage and the design
    that fit worst."""
    value: Any = read(f"ommatidia.recipes.{reference}", Config)
    recipes = (value,) if isinstance(value, Recipe) else value.strategy.horizon()
    again = recipes if len(recipes) > 1 else recipes * 2  # twice is told design by design, and counted once
    ((_, _, rows),), told = price_tables(again, machine())
    tokens = sorted({int(one[1]) for one in rows})
    most = max(rows, key=lambda one: float(str(one[2]).replace(",", "") or 0))
    spread = str(tokens[0]) if len(tokens) == 1 else f"{tokens[0]} to {tokens[-1]}"
    hours = ("at least " if "not counted" in told else "") + str(told["GPU-hours"])
    return f"| `{reference}` | {len(recipes)} | {spread} | {most[2]} | {most[3]} | {hours} |\n"


def written(page: str) -> str:
    """The page with its tables made anew."""

    def table(found: re.Match[str]) -> str:
        return found[1] + _HEAD + "".join(row(name) for name in found["names"].split()) + found[3]

    return _MARKED.sub(table, page)


def write(folder: Path) -> None:
    """Every page of a folder."""
    for path in sorted(folder.glob("*.md")):
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
