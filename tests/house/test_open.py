"""What opens files of others does it in the one safe way: image formats by list, tensors without pickles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "ommatidia"
NEEDED = {("Image", "open"): "formats", ("torch", "load"): "weights_only"}


def calls() -> Iterator[tuple[str, str, set[str]]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            function = node.func if isinstance(node, ast.Call) else None
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                named = {keyword.arg or "" for keyword in node.keywords}  # type: ignore[attr-defined]
                needed = NEEDED.get((function.value.id, function.attr))
                if needed is not None:
                    yield f"{path.relative_to(PACKAGE)}:{function.lineno}", needed, named


def test_openers_say_what_they_open() -> None:
    found = list(calls())
    assert found
    assert [f"{place}: {needed}= is missing" for place, needed, named in found if needed not in named] == []
