"""JSON of other people: what cannot be used is a ValueError that says why, whatever the bytes are."""

from __future__ import annotations

import json
import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_MAYBE = (b"\\ud", b"\\uD", b"\xed")
"""What a lone surrogate needs in the bytes; a search for these costs next to nothing."""


def parse_json(data: bytes) -> Any:
    """The value of one JSON text.

    Raises ValueError in a few words: not JSON, not UTF-8, nested too deeply, a number of thousands of digits, half of a
    character (a lone surrogate, as texts have that were cut after so many characters).
    """
    try:
        value = json.loads(data)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise ValueError("not valid JSON (not UTF-8)") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # Python reads no integer of more digits than this
        raise ValueError("not valid JSON (a number of more than 4,300 digits)") from None
    if any(mark in data for mark in _MAYBE) and (found := half_character(json.dumps(value, ensure_ascii=False))):
        raise ValueError(found)
    return value


def half_character(text: str) -> str | None:
    """What is wrong with a text that cannot be written as UTF-8, or None."""
    found = _SURROGATE.search(text)
    if found is None:
        return None
    before = text[max(0, found.start() - 20) : found.start()]
    return f"half a character ({ascii(found[0])[1:-1]}, a lone surrogate) behind {before!r}; the text was cut inside it"
