"""``omma new``: a working, tested skeleton of a part or a study in the user's folder."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from ommatidia.core.command_result import CommandResult
from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, RunError, unknown
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.lab.search.strategy import Strategy
from ommatidia.models.fusion import FusionConfig
from ommatidia.models.projector import ProjectorConfig
from ommatidia.models.vision import EncoderConfig

FAMILIES: Mapping[str, type[Config] | None] = {
    "encoder": EncoderConfig,
    "fusion": FusionConfig,
    "projector": ProjectorConfig,
    "benchmark": BenchmarkConfig,
    "strategy": Strategy,
    "study": None,
}
"""What there are skeletons of, and the family whose kind it becomes."""

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def new_part(what: str, name: str, folder: Path) -> CommandResult:
    """Write NAME.py and test_NAME.py. Raises ConfigError where the name does not fit or a file is there already."""
    if what not in FAMILIES:
        raise ConfigError(unknown("skeleton", what, FAMILIES))
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(f"{name!r}: expected a Python name in small letters, such as my_{what}")
    title = "".join(word.capitalize() for word in name.split("_"))
    test = "study_test" if what == "study" else "part_test"
    files = {f"{name}.py": what, f"test_{name}.py": test}
    if there := [file for file in files if (folder / file).exists()]:
        raise ConfigError(f"{folder / there[0]}: there already; nothing is written")
    family = FAMILIES[what]
    if family is not None and name in family.kinds():
        raise ConfigError(f"{name!r}: {family.__name__} has this kind already; choose another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, template in files.items():
            text = Template((_TEMPLATES / f"{template}.txt").read_text(encoding="utf-8"))
            (folder / file).write_text(text.substitute(name=name, title=title), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from None
    place = folder / f"{name}.py"
    check = f"omma plan {place}:search" if what == "study" else f"omma check-part {place}"
    lines = [*(f"written: {folder / file}" for file in files), f"next:    {check}"]
    return CommandResult(lines=lines, data={"files": [str(folder / file) for file in files]})
