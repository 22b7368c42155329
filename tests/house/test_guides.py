"""The guides work to the letter: their part goes into a copy of the package at the place they name, and keeps its
contract there; example files can be planned and one trained; the pages show the files as they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ommatidia.core.plain_data import read_plain
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Search
from ommatidia.lab.search.load import read_value

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = r"`(ommatidia/[a-z_/]+\.py)`"
LINE = re.compile(FILE + r", with one line (?:in|at the end of) " + FILE + r":\n\n```py\n(.*?)```", re.DOTALL)
GUIDES = {"add-an-encoder": "EdgesEncoder", "add-a-fusion": "LoudnessSum", "add-a-benchmark": "PairsConfig"}


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_s_part_goes_into_the_package(guide: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / f"{guide}.md").read_text(encoding="utf-8")
    found = LINE.search(text)
    assert found is not None
    file, init, line = found.groups()
    (block,) = [one for one in BLOCK.findall(text) if f"class {GUIDES[guide]}(" in one]
    shutil.copytree(ROOT / "ommatidia", tmp_path / "ommatidia", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / file).write_text(block)
    with (tmp_path / init).open("a") as out:
        out.write(line)
    module = file.removesuffix(".py").replace("/", ".")
    program = f"""
import sys
from pathlib import Path
import ommatidia.lab.recipe
assert Path(ommatidia.lab.recipe.__file__).is_relative_to(Path.cwd())
from ommatidia.lab.own.check import CONTRACTS, declared_kinds, run_contract
kinds = list(declared_kinds({module!r}))
assert kinds
for family, kind, member in kinds:
    for promise, problem in run_contract(family, member):
        print(kind, promise, problem)
        assert problem is None or "tiny()" in problem
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    for command in (["check"], ["format", "--check", "--diff"]):
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", *command, file], cwd=tmp_path, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem != "own_data"], ids=lambda path: path.stem)
def test_an_example_is_a_recipe_or_a_search(path: Path) -> None:
    value = read_value(str(path), None, None)
    if isinstance(value, Search):
        assert value.strategy.refused() == []
        assert len({recipe.digest() for recipe in value.strategy.first()}) > 1
    else:
        assert isinstance(value, Recipe)
        assert value.benchmarks


def test_the_pages_show_the_examples_as_they_are() -> None:
    page = (ROOT / "docs" / "write-a-search.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(shown) == 2
    assert set(shown) <= {path.read_text(encoding="utf-8") for path in EXAMPLES}


def test_a_base_that_leads_nowhere_is_one_line(tmp_path: Path) -> None:
    from ommatidia.core.errors import ConfigError

    cases = {
        "base: a.yaml": "leads back to this file",
        "base: gone.yaml": "gone.yaml",
        "base: ommatidia.recipes.quickstart:serch": "did you mean 'search'",
        "{base: 'ommatidia.recipes.quickstart:search', set: {strategy.sedes: [0]}}": "did you mean 'seeds'",
        "{base: 'ommatidia.recipes.quickstart:search', sett: {}}": "did you mean 'set'",
        "{base: 'evil_module:search'}": "--import evil_module.py",
    }
    for text, said in cases.items():
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ConfigError, match=re.escape(said)) as error:
            read_value(str(tmp_path / "a.yaml"), None, None)
        assert "\n" not in str(error.value)
        assert "a.yaml" in str(error.value)


def test_what_show_prints_is_the_same_value() -> None:
    for reference in ("ommatidia.recipes.quickstart:search", "ommatidia.recipes.eagle:x5_7b"):
        value = read_value(reference, None, None)
        assert type(value).parse(read_plain(value.to_yaml())) == value
        assert type(value).parse(read_plain(value.to_yaml(changed_only=True))) == value
        assert len(value.to_yaml(changed_only=True)) < 0.8 * len(value.to_yaml())


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in code)  # what it prints is what it prints here, never an older run's
    program = "\n\n".join("".join(cell["source"]) for cell in code)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=400, env=_here()
    )
    assert done.returncode == 0, done.stderr
    assert "visual tokens: 4" in done.stdout
    assert "did you mean 'channel_concat'" in done.stdout
    assert "0 nodes done" in done.stdout


def _here() -> dict[str, str]:
    """The environment, with this checkout in front: the notebook runs elsewhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
