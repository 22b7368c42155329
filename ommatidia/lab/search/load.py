"""What a command line names: a recipe or a search with its overrides, or the tiny twin of it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ommatidia.core.config import Config, overridden, read_assignments, read_yaml
from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError
from ommatidia.lab.recipe import Recipe, find, read
from ommatidia.lab.search import Search
from ommatidia.lab.search.twin import twin


def read_preset(reference: str) -> Recipe | Search | None:
    """What a recipe function gives by itself, without arguments; None for a file, and where arguments are needed."""
    if Path(reference).suffix in (".yaml", ".yml", ".json"):
        return None
    needed = [p for p in inspect.signature(find(reference)).parameters.values() if p.default is p.empty]
    value = None if needed else read(reference, Config)
    return value if isinstance(value, Recipe | Search) else None


def read_value(
    reference: str, arguments: Sequence[str] | None, changes: Sequence[str] | None, *, small: bool = False
) -> Recipe | Search:
    """A recipe or a search: ``arguments`` go to its function, ``changes`` are dotted paths and values. ``small``: the
    tiny twin of what these give. Raises ConfigError."""
    named = dict(read_assignments(arguments or []))
    if Path(reference).suffix in (".yaml", ".yml", ".json"):
        data = read_yaml(reference)
        cls: type[Config] = Search if isinstance(data, dict) and "strategy" in data else Recipe
        value: Any = read(reference, cls, named)
    else:
        value = read(reference, Config, named)
    if not isinstance(value, Recipe | Search):
        raise ConfigError(f"{reference} gives a {type(value).__name__}; expected a Recipe or a Search")
    value = overridden(value, read_assignments(changes or []))
    if not small:
        return value
    made = twin(value)
    for note in made.notes:
        console().log(note)
    return made.value
