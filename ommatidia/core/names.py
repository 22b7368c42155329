"""Names that people give and that become files: one plain path component, on every system."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

from pydantic import AfterValidator

LONGEST = 100
"""Characters; 200 bytes in UTF-8, so that an ending still fits a file's name."""
_BYTES = 2 * LONGEST
_MARKS = " _-.,+=@()[]{}'&#%!~^·"
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
_RULE = f"letters, digits, spaces and {' '.join(_MARKS.strip())}, at most {LONGEST} characters"


def check_name(name: str) -> str:
    """The name itself. Raises ValueError that says what is wrong with it."""
    if not name:
        raise ValueError(f"a name is empty; expected {_RULE}")
    strange = sorted({mark for mark in name if not _allowed(mark)})
    if strange:
        raise ValueError(f"the name {_shown(name)} has {' '.join(map(repr, strange))}; expected {_RULE}")
    if len(name) > LONGEST or len(name.encode()) > _BYTES:
        raise ValueError(f"the name {_shown(name)} has {len(name)} characters; expected {_RULE} ({_BYTES} bytes)")
    if name[0] in " .-" or name[-1] in " .":
        raise ValueError(f"the name {_shown(name)} begins with a space, '.' or '-', or ends with a space or '.'")
    if name.partition(".")[0].lower() in _DEVICES:
        raise ValueError(f"the name {_shown(name)} is a device's on Windows; choose another")
    return name


Name = Annotated[str, AfterValidator(check_name)]
"""A name as a field of a Config."""


def fit_name(text: str) -> str:
    """The name nearest to ``text``: others become '_', and what is too long ends with 8 digits of a digest."""
    name = "".join(mark if _allowed(mark) else "_" for mark in text).strip(" .").lstrip("-")
    if len(name) > LONGEST or len(name.encode()) > _BYTES:
        short = name.encode()[: LONGEST - 9].decode(errors="ignore").rstrip(" .")
        name = f"{short} {hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return f"_{name}" if not name or name.partition(".")[0].lower() in _DEVICES else name


def number_order(name: str) -> tuple[Any, ...]:
    """A key to sort names by that takes numbers in them for numbers: ``img2`` comes before ``img10``."""
    pieces = re.split("([0-9]+)", name)
    numbers = [(len(digits.lstrip("0")), digits.lstrip("0")) for digits in pieces[1::2]]
    return tuple(zip(pieces[::2], [*numbers, (0, "")], strict=True)), name


def _allowed(mark: str) -> bool:
    return mark.isalnum() or mark in _MARKS


def _shown(name: str) -> str:
    return repr(name if len(name) <= LONGEST else f"{name[:LONGEST]}...")
