"""How many designs each search of the recipes gives, kept as data: building them all takes twenty seconds of CPU time.

``python -m ommatidia.lab.show.designs`` writes the file; do so when a search is added or has other designs: tests
count. A search that is not in it is counted when it is asked for.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ommatidia.lab.recipe import recipe_modules, recipes_of
from ommatidia.lab.search.search import Search

PATH = Path(__file__).with_suffix(".json")


def designs(reference: str, function: Callable[..., Any]) -> str:
    """How many designs a recipe function gives; of a search that goes by results, those that it may come to."""
    signature = inspect.signature(function)
    if any(one.default is one.empty for one in signature.parameters.values()):
        return "?"
    if signature.return_annotation != "Search":
        return "1"
    return _kept().get(reference) or count(function)


def count(function: Callable[..., Any]) -> str:
    """The number for a function that gives a search, by building it."""
    search: Search = function()
    first, all_of_them = len(search.strategy.first()), len(search.strategy.horizon())
    return str(first) if first == all_of_them else f"up to {all_of_them}"


def searches() -> dict[str, Callable[..., Any]]:
    """The functions that give a search and need no argument, by reference."""
    found = {
        f"{module}:{name}": function
        for module in recipe_modules()
        for name, function in recipes_of(importlib.import_module(module)).items()
    }
    return {
        reference: function
        for reference, function in found.items()
        if (signature := inspect.signature(function)).return_annotation == "Search"
        and all(one.default is not one.empty for one in signature.parameters.values())
    }


def write(path: Path = PATH) -> None:
    """Count them all and keep them at ``path``, one entry a line."""
    counted = {reference: count(function) for reference, function in searches().items()}
    path.write_text(json.dumps(counted, indent=2) + "\n", encoding="utf-8")


@cache
def _kept() -> dict[str, str]:
    if not PATH.is_file():
        return {}
    kept: dict[str, str] = json.loads(PATH.read_text(encoding="utf-8"))
    return kept


if __name__ == "__main__":
    write()
