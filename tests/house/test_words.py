"""What never appears here: prints, empty names, promises, swallowed errors, paths of one machine, pickles."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

EMPTY_NAMES = frozenset({"tower", "towers", "aux", "util", "utils", "helper", "helpers", "manager", "managers", "misc"})
PRINTS = frozenset({"ommatidia/core/console.py"})
# The one place where a trial may fail and the search must not.
BROAD_EXCEPT = {
    "ommatidia/core/outside_parts.py": 2,  # a user's module can raise anything
    "ommatidia/lab/own/check.py": 1,  # so can a user's part
    "ommatidia/lab/run/attempt.py": 1,
    "ommatidia/lab/run/workers.py": 1,
}
UNSAFE_MODULES = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"})
NETWORK_MODULES = frozenset({"requests", "httpx", "urllib.request", "urllib3", "aiohttp", "http.client", "socket"})
# Joined here so that this file does not contain what it looks for.
PROMISE = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
MACHINE_PATH = re.compile(
    r"(?<![\w.~}/-])/(" + "|".join(("wo" + "rk", "fa" + "rm", "ro" + "ot", "ho" + "me/[a-z]")) + r")\b/?"
)


def words(name: str) -> list[str]:
    """The words of an identifier: ``VisionTowerConfig`` and ``vision_tower_config`` are both vision, tower, config."""
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().strip("_").split("_")


def is_empty_name(name: str) -> bool:
    return bool(EMPTY_NAMES.intersection(words(name))) or name.lower().lstrip("_").startswith("mm_")


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of everything a file names itself; names that it only uses belong to other libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


def broad_excepts(tree: ast.AST) -> list[int]:
    """Lines of handlers that catch everything and do not raise it again."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = [node.type] if not isinstance(node.type, ast.Tuple) else node.type.elts
        broad = any(t is None or ast.unparse(t) in ("Exception", "BaseException") for t in caught)
        last = node.body[-1]
        if broad and not (isinstance(last, ast.Raise) and last.exc is None):
            found.append(node.lineno)
    return found


def unsafe_loads(tree: ast.AST) -> list[str]:
    """Calls and imports that could run code from a data file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            if isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} == {"UnpicklingError"}:
                continue  # what torch.load raises when a file is no checkpoint: a name to catch, nothing that loads
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno} imports {name}" for name in named if name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.Call):
            given = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
            if ast.unparse(node.func) == "torch.load" and given.get("weights_only") != "True":
                found.append(f"{node.lineno} torch.load without weights_only=True")
            if given.get("allow_pickle") == "True":
                found.append(f"{node.lineno} allow_pickle=True")
            if given.get("trust_remote_code") == "True":
                found.append(f"{node.lineno} trust_remote_code=True")
    return found


def test_nothing_prints(package):
    found = [
        f"{m.path}:{node.lineno}"
        for m in package
        if m.path not in PRINTS
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found, "print belongs to core/console.py alone:\n" + "\n".join(found)


def test_names_say_what_they_are(modules):
    found = [f"{m.path}:{line} {name}" for m in modules for line, name in defined_names(m.tree) if is_empty_name(name)]
    found += [m.path for m in modules if any(is_empty_name(part) for part in m.name.split("."))]
    assert not found, "a name that says nothing (style.md, rule 3):\n" + "\n".join(found)


def test_no_promises(texts):
    found = [f"{path}: {hit.group()}" for path, text in texts.items() for hit in PROMISE.finditer(text)]
    assert not found, "open an issue instead:\n" + "\n".join(found)


def test_errors_are_not_swallowed(modules):
    found = []
    for module in modules:
        lines = broad_excepts(module.tree)
        if len(lines) > BROAD_EXCEPT.get(module.path, 0):
            found.append(f"{module.path}: lines {lines}")
    assert not found, "catch what you expect, or raise it again:\n" + "\n".join(found)


def test_no_machine_paths(texts):
    found = [
        f"{path}:{text.count(chr(10), 0, hit.start()) + 1} {hit.group()}"
        for path, text in texts.items()
        for hit in MACHINE_PATH.finditer(text)
    ]
    assert not found, "a path of one machine:\n" + "\n".join(found)


def test_no_code_runs_from_data(modules):
    found = [f"{m.path}:{what}" for m in modules for what in unsafe_loads(m.tree)]
    assert not found, "\n".join(found)


def test_nothing_reaches_for_the_network_when_imported(package):
    found = []
    for module in package:
        for node in module.tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            hits = [n for n in names if any(n == net or n.startswith(net + ".") for net in NETWORK_MODULES)]
            found += [f"{module.path}:{node.lineno} {name}" for name in hits]
    assert not found, "import it where it is used:\n" + "\n".join(found)


@pytest.mark.parametrize("name", ["vision_tower", "VisionTower", "mm_projector", "aux_loss", "ImageUtils", "misc"])
def test_empty_names_are_seen(name):
    assert is_empty_name(name)


@pytest.mark.parametrize("name", ["auxiliary", "utilisation", "comm", "mmap", "contextmanager", "x_BHWD", "tokens"])
def test_good_names_pass(name):
    assert not is_empty_name(name)


def test_the_other_rules_see_what_they_look_for():
    swallow, again = (
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept Exception:\n    g()\n    raise",
    )
    assert broad_excepts(ast.parse(swallow)) == [3]
    assert broad_excepts(ast.parse(again)) == []
    assert broad_excepts(ast.parse(swallow.replace(" Exception", ""))) == [3]
    assert broad_excepts(ast.parse(swallow.replace("Exception", "(OSError, Exception)"))) == [3]
    assert unsafe_loads(ast.parse("import pickle"))
    assert not unsafe_loads(ast.parse("from pickle import UnpicklingError"))
    assert unsafe_loads(ast.parse("torch.load(path)"))
    assert not unsafe_loads(ast.parse("torch.load(path, weights_only=True)"))
    assert MACHINE_PATH.search("open('" + "/wo" + "rk/x')")
    assert not MACHINE_PATH.search("https://example.org" + "/wo" + "rk/x")
