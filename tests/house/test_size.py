"""A file that passes 400 lines or a function that passes 60 is asking to be understood again."""

from __future__ import annotations

import ast

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def test_files_are_short(modules):
    long = [f"{m.path}: {n} lines" for m in modules if (n := m.text.count("\n")) > LONGEST_FILE]
    assert not long, f"more than {LONGEST_FILE} lines:\n" + "\n".join(long)


def test_functions_are_short(modules):
    long = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{module.path}:{node.lineno} {node.name}: {lines} lines")
    assert not long, f"more than {LONGEST_FUNCTION} lines:\n" + "\n".join(long)
