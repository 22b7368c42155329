"""Text from data inside Markdown: it stays text, for every reader of Markdown, GitHub's among them."""

from __future__ import annotations

import re

_MARKS = re.compile(r"([\\`*_\[\]|~$!])")
_ADDRESS = re.compile(r"(?i)(www|(?:https?|ftp|mailto|xmpp))([.:])")
_AT = re.compile(r"@(?=\S)")
_START = re.compile(r"^(?:([-+=#:])|(\d+)([.)])(?=\s|$))")


def as_text(text: str) -> str:
    """One line that makes no markup, no HTML, and no link by itself: neither an address nor a name behind an @.

    GitHub links what looks like a mail address even where its @ is escaped: an empty comment divides it.
    """
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = _ADDRESS.sub(r"\1\\\2", _MARKS.sub(r"\\\1", flat))
    return _START.sub(_escaped_start, _AT.sub("@<!-- -->", escaped))


def _escaped_start(found: re.Match[str]) -> str:
    """What would begin a list, a heading or a rule at the start of a line, as plain text."""
    sign, number, end = found.groups()
    return f"\\{sign}" if sign else f"{number}\\{end}"
