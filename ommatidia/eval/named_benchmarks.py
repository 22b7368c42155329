"""Benchmarks by name: those that need no download (test splits of the built-in sources, with fonts, colours and layouts
held out), and the published ones, which read a local copy below ``data``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.benchmarks import Published

PICTURES = 120
"""Images that a benchmark shows."""


def _benchmark(
    name: str, group: str, source: Mapping[str, Any], *, scorer: str = "exact", max_new_tokens: int = 6
) -> dict[str, Any]:
    return {
        "kind": "source",
        "name": name,
        "group": group,
        "source": dict(source),
        "scorer": {"kind": scorer},
        "max_new_tokens": max_new_tokens,
    }


def _drawn(name: str, group: str, per_picture: int, *asks: str) -> dict[str, Any]:
    source = {"kind": f"drawn_{name}", "split": "test", "pictures": PICTURES, "per_picture": per_picture}
    return _benchmark(name, group, source | ({"asks": list(asks)} if asks else {}))


_EASY = {"kind": "easy_vqa", "split": "test", "pictures": PICTURES}

_DRAWN: Mapping[str, Mapping[str, Any]] = {
    "words": _drawn("words", "ocr_chart", 2),
    "numbers": _drawn("numbers", "ocr_chart", 2),
    "charts": _drawn("charts", "ocr_chart", 3),
    "counts": _drawn("counts", "vision_centric", 3),
    "relations": _drawn("relations", "vision_centric", 3),
    "attributes": _drawn("attributes", "general", 3),
    "easy_vqa": _benchmark("easy_vqa", "general", {**_EASY, "per_picture": 4}),
    # Narrower questions, which a model of a million parameters can learn in seconds: the quickstart's.
    "shapes": _benchmark("shapes", "general", {**_EASY, "per_picture": 3, "asks": ["colour", "form"]}),
    "digits": {**_drawn("numbers", "ocr_chart", 2, "first", "last"), "name": "digits"},
    "lengths": {**_drawn("words", "ocr_chart", 1, "length"), "name": "lengths"},
    "places": {**_drawn("relations", "vision_centric", 2, "extreme", "side"), "name": "places"},
    "plain_questions": _benchmark(
        "plain_questions", "knowledge", {"kind": "plain_questions"}, scorer="contains", max_new_tokens=32
    ),
}


def _published() -> dict[str, Mapping[str, Any]]:
    """Every published kind under its name; CV-Bench as its two parts and MMBench also plain, as papers list them."""
    kinds = [kind for kind, member in BenchmarkConfig.kinds().items() if issubclass(member, Published)]
    named: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in sorted(kinds)}
    del named["cv_bench"]
    for part in ("2D", "3D"):
        named[f"cv_bench_{part.lower()}"] = {"kind": "cv_bench", "part": part}
    named["mmbench_plain"] = {"kind": "mmbench", "circular": False}
    return {name: {**fields, "name": name} for name, fields in named.items()}


BENCHMARKS: Mapping[str, Mapping[str, Any]] = {**_DRAWN, **_published()}
