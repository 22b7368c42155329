"""Benchmarks that need no download, by name: test splits of the built-in sources (fonts, colours, layouts held out)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PICTURES = 150
"""Pictures a drawn benchmark has."""


def _drawn(kind: str, group: str, per_picture: int) -> dict[str, Any]:
    source = {"kind": kind, "split": "test", "pictures": PICTURES, "per_picture": per_picture}
    return {
        "kind": "source",
        "name": kind,
        "group": group,
        "source": source,
        "scorer": {"kind": "exact"},
        "max_new_tokens": 6,
    }


BENCHMARKS: Mapping[str, Mapping[str, Any]] = {
    "words": _drawn("drawn_words", "ocr_chart", 2),
    "numbers": _drawn("drawn_numbers", "ocr_chart", 2),
    "charts": _drawn("drawn_charts", "ocr_chart", 3),
    "counts": _drawn("drawn_counts", "vision_centric", 3),
    "relations": _drawn("drawn_relations", "vision_centric", 3),
    "attributes": _drawn("drawn_attributes", "general", 3),
    "easy_vqa": {
        "kind": "source",
        "name": "easy_vqa",
        "group": "general",
        "source": {"kind": "easy_vqa", "split": "test", "pictures": PICTURES, "per_picture": 3},
        "scorer": {"kind": "exact"},
        "max_new_tokens": 4,
    },
}
