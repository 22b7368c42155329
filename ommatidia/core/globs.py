"""Values by glob over the names of parts, as in ``{"encoders.*": "full", "language": "selective"}``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from ommatidia.core.errors import ConfigError, unknown

V = TypeVar("V")


def by_part(globs: Mapping[str, V], parts: Collection[str], *, field: str) -> dict[str, V]:
    """What ``globs`` over part names say of each part, in the order of the parts; the most specific glob wins.

    Raises ConfigError, about ``field``, for a glob that matches no part (with the nearest) and for two equally specific
    ones that say different things.
    """
    for glob in globs:
        if not any(fnmatchcase(part, glob) for part in parts):
            raise ConfigError(f"{field}: {unknown('part', glob, parts)}")
    found: dict[str, V] = {}
    for part in parts:
        matching = sorted((glob for glob in globs if fnmatchcase(part, glob)), key=literal)
        best = [glob for glob in matching if literal(glob) == literal(matching[-1])]
        if any(globs[glob] != globs[best[0]] for glob in best):
            raise ConfigError(f"{field}: {part} matches {' and '.join(map(repr, best))} equally well")
        if best:
            found[part] = globs[best[0]]
    return found


def by_holding(globs: Mapping[str, V], held: Mapping[str, Sequence[Any]], *, field: str, what: str) -> dict[str, V]:
    """``by_part`` for parts that hold something (``what``); those that hold nothing are left out.

    Raises ConfigError for a glob that matches no part, or only parts that hold nothing.
    """
    chosen = by_part(globs, held, field=field)
    for glob in globs:
        covered = by_part({glob: None}, held, field=field)
        if not any(held[part] for part in covered):
            having = ", ".join(part for part in held if held[part]) or "none"
            raise ConfigError(f"{field}: {', '.join(covered)} has no {what}; parts that have: {having}")
    return {part: value for part, value in chosen.items() if held[part]}


def literal(glob: str) -> int:
    """How specific a glob is: its characters, wildcards not counted."""
    return sum(character not in "*?[]" for character in glob)
