"""The docs tell the truth: commands exist, links lead somewhere, every kind of every family has its row."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import ommatidia
from ommatidia.core.config import Config

FENCE = re.compile(r"^(?P<fence>```|~~~)[^\n]*\n(?P<code>.*?)^(?P=fence)", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$")
ROW = re.compile(r"^\| *`([^`]+)` *\|")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def pages(root: Path) -> dict[str, str]:
    paths = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def code_lines(text: str) -> Iterator[str]:
    """Lines of fenced code and inline code spans; prose may say "make sure"."""
    for block in FENCE.finditer(text):
        yield from block["code"].splitlines()
    yield from INLINE.findall(FENCE.sub("", text))


def subcommands(line: str, program: str) -> list[str]:
    """What ``program`` is asked to do in this line of code: ``omma plan x`` -> plan; ``make -C dir test`` -> test."""
    found = []
    for call in re.finditer(rf"(?:^|[\s/;&|])(?:{program})((?: +[^\s;&|]+)+)", line):
        words = re.sub(r" -[CfjI] +\S+", "", call[1]).split()
        first = next((w for w in words if not w.startswith("-") and "=" not in w), "")
        # Only what could be a name: `omma ls | show | plan` names the first, `omma COMMAND` none.
        if re.fullmatch(r"[a-z][a-z-]*", first):
            found.append(first)
    return found


def rows(text: str) -> set[tuple[str, str]]:
    """(heading, kind) of every table row whose first cell is a kind in backticks."""
    found, heading = set(), ""
    for line in text.splitlines():
        if match := HEADING.match(line):
            heading = match[1]
        elif match := ROW.match(line):
            found.add((heading, match[1]))
    return found


def families() -> dict[str, set[str]]:
    """Every family of the package by name, with its kinds."""
    for module in pkgutil.walk_packages(ommatidia.__path__, "ommatidia."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, set[str]] = {}
    pending: list[type[Config]] = [Config]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        # Families and kinds that other tests declare for themselves are not ours.
        if cls._family is cls and cls.__module__.startswith("ommatidia."):
            members = cls.kinds().items()
            found[cls.__name__] = {kind for kind, member in members if member.__module__.startswith("ommatidia.")}
    return found


def test_every_omma_command_exists(root):
    import typer

    cli = importlib.import_module("ommatidia.cli")
    app = next(value for value in vars(cli).values() if isinstance(value, typer.Typer))
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    unknown = {
        f"{page}: omma {command}"
        for page, text in pages(root).items()
        for line in code_lines(text)
        for command in subcommands(line, "omma")
        if command not in known
    }
    assert not unknown, "\n".join(sorted(unknown))


def test_every_make_target_exists(root):
    known = set(TARGET.findall((root / "Makefile").read_text(encoding="utf-8")))
    assert {"setup", "quickstart", "test"} <= known
    unknown = {
        f"{page}: make {target}"
        for page, text in pages(root).items()
        for line in code_lines(text)
        for target in subcommands(line, "make")
        if target not in known
    }
    assert not unknown, "\n".join(sorted(unknown))


def test_every_link_leads_somewhere(root):
    broken = []
    for page, text in pages(root).items():
        for target in LINK.findall(FENCE.sub("", text)):
            place = target.partition("#")[0]
            elsewhere = not place or "://" in place or place.startswith("mailto:")
            if not elsewhere and not ((root / page).parent / place).exists():
                broken.append(f"{page}: {target}")
    assert not broken, "\n".join(broken)


def test_every_kind_has_a_row(root):
    page = root / "docs" / "design-space.md"
    assert page.exists(), "docs/design-space.md is missing"
    shown = rows(page.read_text(encoding="utf-8"))
    missing = [
        f"{family} {kind}"
        for family, kinds in families().items()
        for kind in kinds
        if not any(family in heading and kind == name for heading, name in shown)
    ]
    assert not missing, (
        "no row in docs/design-space.md; wanted is a heading that names the family class "
        "and under it a table row that starts with | `kind` |:\n" + "\n".join(sorted(missing))
    )


def test_every_row_has_a_kind(root):
    page = root / "docs" / "design-space.md"
    assert page.exists(), "docs/design-space.md is missing"
    known = families()
    stale = [
        f"{heading}: {kind}"
        for heading, kind in rows(page.read_text(encoding="utf-8"))
        for family in known
        if re.search(rf"\b{family}\b", heading) and kind not in known[family]
    ]
    assert not stale, "rows of kinds that do not exist:\n" + "\n".join(sorted(stale))


def test_commands_are_read_from_code():
    fenced = "```sh\n$ make -C elsewhere test ARGS=1\n.venv/bin/omma --json show r\n```"
    text = f"make sure; `omma plan x`\n{fenced}\n`omma COMMAND`"
    lines = list(code_lines(text))
    assert [c for line in lines for c in subcommands(line, "omma")] == ["show", "plan"]
    assert [c for line in lines for c in subcommands(line, "make")] == ["test"]
