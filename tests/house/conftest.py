"""Reads the repository once for all house rules: every Python file parsed, every text file that people read."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_FOLDERS = ("ommatidia", "tests", "benchmarks")
TEXT_SUFFIXES = frozenset({".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".html", ".css", ".js", ".j2"})
TEXT_FILES = (
    "Makefile",
    ".ci/run",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "constraints.txt",
    "pyproject.toml",
)
LARGEST_TEXT = 1_000_000  # bytes; anything larger is data, not something a person wrote


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file: its path from the root, its dotted name, its text and its syntax tree."""

    path: str
    name: str
    text: str
    tree: ast.Module

    @property
    def packaged(self) -> bool:
        """Whether it belongs to the package, not to its tests or benchmarks."""
        return self.path.startswith("ommatidia/")


def read_module(path: Path) -> Module:
    relative = path.relative_to(ROOT)
    dotted = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
    text = path.read_text(encoding="utf-8")
    return Module(relative.as_posix(), dotted, text, ast.parse(text, filename=str(path)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> tuple[Module, ...]:
    """Every Python file of the package, its tests and its benchmarks."""
    paths = (path for folder in PYTHON_FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return tuple(read_module(path) for path in paths)


@pytest.fixture(scope="session")
def package(modules: tuple[Module, ...]) -> tuple[Module, ...]:
    """Every Python file of the package."""
    return tuple(module for module in modules if module.packaged)


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """Everything that people read, by path from the root: code, docs, build files, templates, small data."""
    paths = [ROOT / name for name in TEXT_FILES]
    for folder in (*PYTHON_FOLDERS, "docs"):
        paths += [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in TEXT_SUFFIXES]
    wanted = {path for path in paths if path.is_file() and path.stat().st_size <= LARGEST_TEXT}
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(wanted)}
