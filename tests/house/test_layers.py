"""Imports run downward only: cli, recipes, serve -> lab -> train, eval; train -> models, data; everything -> core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest

BELOW: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "models": frozenset({"core"}),
    "data": frozenset({"core"}),
    "eval": frozenset({"core"}),
    "train": frozenset({"models", "data", "core"}),
    "lab": frozenset({"train", "eval", "models", "data", "core"}),
    "recipes": frozenset({"lab", "train", "eval", "models", "data", "core"}),
    "serve": frozenset({"lab", "train", "eval", "models", "data", "core"}),
    # `omma serve` starts the server, the one thing beside it that the command line may know.
    "cli": frozenset({"serve", "lab", "train", "eval", "models", "data", "core"}),
}
HEAVY = frozenset({"torch", "torchvision", "timm", "transformers", "matplotlib", "datasets", "pandas", "scipy"})


def imports(tree: ast.AST, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, at any depth, relative ones resolved; ``import_module("...")`` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if package else module.split(".")[:-1]
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            # `from ommatidia import lab` names a layer in its alias, `from ommatidia.lab import x` in its module.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def only_about(tree: ast.AST) -> bool:
    """Whether ``import ommatidia`` serves only to say which package this is and where it lies."""
    uses = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "ommatidia"}
    return uses <= {"__version__", "__file__"}


def offences(tree: ast.AST, module: str, *, package: bool = False) -> list[str]:
    """Imports of ``module`` (dotted, within ommatidia) that do not run downward."""
    layer = module.split(".")[1]
    allowed = BELOW[layer] | {layer}
    found = []
    for line, name in imports(tree, module, package=package):
        parts = name.split(".")
        if parts[0] != "ommatidia" or name == "ommatidia.__version__" or (name == "ommatidia" and only_about(tree)):
            continue
        target = parts[1] if len(parts) > 1 else "the package's public names"
        if target not in allowed:
            found.append(f"line {line}: {layer} imports {name}")
    return found


def top_level(tree: ast.Module) -> ast.Module:
    """The module without function bodies and without ``if TYPE_CHECKING`` blocks: what runs when it is imported."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> Any:
            if "TYPE_CHECKING" in ast.unparse(node.test):
                return [self.visit(child) for child in node.orelse]
            return self.generic_visit(node)

    stripped = Strip().visit(ast.parse(ast.unparse(tree)))
    assert isinstance(stripped, ast.Module)
    return stripped


def test_every_import_runs_downward(package):
    found = []
    for module in package:
        if module.name == "ommatidia":  # the public names: may show what any layer offers
            continue
        folder = module.path.endswith("__init__.py")
        found += [f"{module.path}: {line}" for line in offences(module.tree, module.name, package=folder)]
    assert not found, "\n".join(found)


def test_every_folder_is_a_known_layer(package):
    layers = {module.name.split(".")[1] for module in package if module.name not in ("ommatidia", "ommatidia.__main__")}
    assert layers <= set(BELOW), f"no layer of the architecture: {sorted(layers - set(BELOW))}"


def test_core_and_cli_load_nothing_heavy_when_imported(package):
    found = []
    for module in package:
        if module.name.split(".")[1:2] not in (["core"], ["cli"]) and module.name != "ommatidia":
            continue
        for _, name in imports(top_level(module.tree), module.name):
            if name.split(".")[0] in HEAVY:
                found.append(f"{module.path}: imports {name} at module level")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "code", "caught"),
    [
        ("ommatidia.core.grid", "import ommatidia.models.model", True),
        ("ommatidia.models.model", "def f():\n    from ommatidia.data.loader import Loader", True),
        ("ommatidia.eval.benchmark", "from ommatidia import data", True),
        ("ommatidia.train.stage", "from ommatidia.eval import scoring", True),
        ("ommatidia.data.loader", "from ..models import processor", True),
        ("ommatidia.data.loader", "import importlib\nimportlib.import_module('ommatidia.lab.run')", True),
        ("ommatidia.lab.run", "from ommatidia import load", True),
        ("ommatidia.lab.run", "import ommatidia\nommatidia.load('x')", True),
        ("ommatidia.lab.run", "import ommatidia\nprint(ommatidia.__version__)", False),
        ("ommatidia.data.loader", "from .mixture import Mixture\nfrom ..core import types", False),
        ("ommatidia.lab.run", "from ommatidia.train.stage import Stage\nfrom ommatidia import __version__", False),
        ("ommatidia.core.grid", "import torch.nn", False),
    ],
)
def test_the_rule_itself(module, code, caught):
    assert bool(offences(ast.parse(code), module)) is caught
