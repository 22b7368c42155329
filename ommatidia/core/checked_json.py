"""JSON documents that carry a checksum of themselves, so that a damaged byte is found and never read as a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECKSUM = "checksum"


def checked(document: Mapping[str, Any]) -> str:
    """The document as JSON text, with the checksum of its values as its last field."""
    plain = json.loads(json.dumps(document, ensure_ascii=False))
    return json.dumps({**plain, CHECKSUM: _digest(plain)}, indent=1, ensure_ascii=False)


def read_checked(text: str | bytes) -> dict[str, Any]:
    """The document without its checksum. Raises ValueError where it is no such document or is damaged.

    One that was written without a checksum is taken as it is.
    """
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("expected a JSON object")
    expected = document.pop(CHECKSUM, None)
    if expected is not None and expected != _digest(document):
        raise ValueError("it does not match its checksum")
    return document


def _digest(plain: Mapping[str, Any]) -> str:
    text = json.dumps(plain, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
