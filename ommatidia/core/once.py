"""Values that follow from a frozen config alone, worked out once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

R = TypeVar("R")


def once(method: Callable[[Any], R]) -> Callable[[Any], R]:
    """A method of a Config that takes no argument, worked out once for each value. What it gives must not be changed.

    A copy of the value works it out anew. Not for what depends on files, which may change under a value.
    """
    name = f"once {method.__qualname__}"

    @wraps(method)
    def kept(self: Any) -> R:
        values = vars(self)
        if name not in values:
            values[name] = method(self)
        return values[name]

    return kept
