"""What a command line names: a recipe or a search with its overrides, or the tiny twin of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ommatidia.core.config import Config, overridden, read_assignments, read_yaml
from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError
from ommatidia.core.outside_parts import is_outside, require_parts
from ommatidia.lab.recipe import Recipe, find, read
from ommatidia.lab.search import Search
from ommatidia.lab.search.twin import twin


def read_preset(reference: str) -> Recipe | Search | None:
    """What a recipe function gives by itself, without arguments; None for a file, and where arguments are needed."""
    if _is_file(reference):
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
    value = _read_file(Path(reference), named) if _is_file(reference) else read(reference, Config, named)
    if not isinstance(value, Recipe | Search):
        raise ConfigError(f"{reference} gives a {type(value).__name__}; expected a Recipe or a Search")
    value = overridden(value, read_assignments(changes or []))
    if not small:
        return value
    made = twin(value)
    for note in made.notes:
        console().log(note)
    return made.value


def read_recipe(reference: str, arguments: Sequence[str] | None, changes: Sequence[str] | None = None) -> Recipe:
    """``read_value`` where one recipe is wanted. Raises ConfigError."""
    value = read_value(reference, arguments, changes)
    if not isinstance(value, Recipe):
        raise ConfigError(f"{reference} is a search; expected a recipe")
    return value


def _is_file(reference: str) -> bool:
    return Path(reference).suffix in (".yaml", ".yml", ".json")


def _read_file(path: Path, arguments: Mapping[str, Any], above: tuple[Path, ...] = ()) -> Any:
    """The value of a file: written in full, or a ``base`` and what is changed of it. Raises ConfigError."""
    if arguments:
        raise ConfigError(f"{path}: a file takes no arguments ({', '.join(arguments)}); use --set")
    data = read_yaml(path)
    try:
        if isinstance(data, dict) and "base" in data:
            return _on_base(Variant.parse(data), path, above)
        cls: type[Config] = Search if isinstance(data, dict) and "strategy" in data else Recipe
        return cls.parse(data)
    except ConfigError as error:
        if str(error).startswith(str(path)):
            raise
        raise ConfigError(f"{path}: {error}") from None


class Variant(Config):
    """A file that starts from another recipe or search and changes it."""

    base: str
    """``module:function`` as on the command line, or a YAML or JSON file beside this one."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Of the function."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values by dotted path, as ``--set`` takes them."""
    imports: tuple[str, ...] = ()
    """Modules outside the package that declare parts of it."""


def _on_base(variant: Variant, path: Path, above: tuple[Path, ...]) -> Any:
    if path.resolve() in above:
        raise ConfigError(f"base: {variant.base} leads back to this file")
    require_parts(variant.imports)
    if _is_file(variant.base):
        base = _read_file(path.parent / variant.base, variant.arguments, (*above, path.resolve()))
    else:
        module = variant.base.partition(":")[0]
        if is_outside(module):
            require_parts([module])
        base = read(variant.base, Config, variant.arguments)
    return overridden(base, variant.set.items())
