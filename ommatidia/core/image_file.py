"""From what a record names as an image file to the file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from ommatidia.core.errors import DataError

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{200,}={0,2}\s*")
_SCHEME = re.compile(r"file:(?://(?:localhost(?=/))?)?")
_SHOWN = 120


def path_of(name: str) -> str:
    """The path that a name says: itself, or that of a ``file:`` URI, whose %20 and the like are decoded (RFC 8089).

    ``file://images/a.jpg``, which names a host for those who are strict, is the relative path people mean by it.
    """
    if not name.startswith("file:"):
        return name
    return unquote(_SCHEME.sub("", name, count=1), errors="surrogateescape")


def image_file(folder: Path, name: str) -> Path:
    """The file ``name``, a path or a ``file:`` URI, below ``folder``.

    Raises DataError, whatever the name holds, where there is none.
    """
    path = folder / path_of(name)
    try:
        if path.is_file():
            return path
        cause = f"{shown(str(path))}: no such image file"
    except (OSError, ValueError) as error:  # too long, a NUL byte, half a character
        reason = error.strerror if isinstance(error, OSError) else "no path can hold this text"
        cause = f"{shown(name)}: no image file can have this name ({reason})"
    if _BASE64.fullmatch(name):
        cause = f"{shown(name)}: looks like base64: write data:image/...;base64, before it"
    raise DataError(cause, kind="missing image")


def shown(text: str) -> str:
    """A text as an error shows it: one line of printable characters, shortened."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return plain if len(plain) <= 2 * _SHOWN else f"{plain[:_SHOWN]}... ({len(text)} characters)"
