"""Parts of a user's own: written by ``omma new``, they work in every command, and are imported only where asked for."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.core.outside_parts import (
    allow_imports,
    code_digest,
    import_module,
    import_parts,
    load_installed_parts,
    outside_modules,
    require_parts,
)
from ommatidia.eval.scoring.scorer import ScorerConfig
from ommatidia.lab.own.check import check_parts
from ommatidia.lab.own.new import FAMILIES, new_part
from ommatidia.lab.recipe import Recipe
from ommatidia.models.fusion import FusionConfig
from ommatidia.models.pretrained import load
from ommatidia.models.vision import EncoderConfig

STUDY = """
from my_strategy import MyStrategyStrategy
import my_encoder, my_fusion, my_benchmark
from ommatidia.lab.search import Search
from ommatidia.recipes.quickstart import design

def search() -> Search:
    data = design().to_dict()
    data["stages"] = [{**stage, "steps": 2, "warmup": 0} for stage in data["stages"] if stage["name"] != "language"]
    neck = {"kind": "linear", "dim": 8}
    eyes = {f"eye{n}": {"kind": "my_encoder", "image_size": n, "dim": 4, "neck": neck} for n in (32, 64)}
    data["model"]["encoders"] = eyes
    data["model"]["fusion"] = {"kind": "my_fusion", "grid": [2, 2], "dim": 8}
    data["benchmarks"] = [{"kind": "my_benchmark", "name": "colour", "group": "vision_centric", "questions": 4}]
    return Search(name="mine", strategy=MyStrategyStrategy.parse({"kind": "my_strategy", "recipe": data, "pool": eyes}))
"""
ALL = ["--import", "mine.py"]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty current folder; modules, paths and kinds of the test are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before, kinds = set(sys.modules), {family: dict(family._members) for family in families()}
    yield tmp_path
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == tmp_path:
            del sys.modules[name]
    for family, members in kinds.items():
        family._members.clear()
        family._members.update(members)
    code_digest.cache_clear()


def families() -> list[type[Config]]:
    return [family for family in (*FAMILIES.values(), ScorerConfig) if family is not None]


def omma(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, as in a folder outside the checkout."""
    command = [sys.executable, "-m", "ommatidia.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search by an own strategy over own encoders, an own fusion and an own benchmark."""
    folder = tmp_path_factory.mktemp("outside")
    for what in ("encoder", "fusion", "benchmark", "strategy"):
        new_part(what, f"my_{what}", folder)
    (folder / "mine.py").write_text(STUDY)
    done = omma(folder, "search", "mine.py:search", "--jobs", "2")
    assert done.returncode == 0, said(done)
    assert "--import my_encoder.py" in said(done)
    return folder


@pytest.mark.parametrize("what", [what for what, family in FAMILIES.items() if family is not None])
def test_a_skeleton_keeps_its_contract(what: str, clean: Path) -> None:
    new_part(what, f"new_{what}", clean)
    result = check_parts(f"new_{what}.py")
    assert result.status == 0, [row for row in result.tables[0][2] if row[2] != "kept"]
    assert len(result.tables[0][2]) >= 5
    with pytest.raises(ConfigError, match="there already; nothing is written"):
        new_part(what, f"new_{what}", clean)


def test_a_study_s_skeleton_can_be_planned(clean: Path) -> None:
    new_part("study", "new_study", clean)
    search = import_module("new_study.py").search()
    assert (search.name, len(search.strategy.first())) == ("new_study", 6)


@pytest.mark.parametrize(
    ("what", "name", "said"),
    [
        ("encodre", "mine", "did you mean 'encoder'"),
        ("encoder", "My-Encoder", "expected a Python name in small letters"),
        ("encoder", "class", "expected a Python name"),
        ("fusion", "channel_concat", "has this kind already"),
    ],
)
def test_a_skeleton_that_cannot_be_written(what: str, name: str, said: str, clean: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        new_part(what, name, clean)
    assert list(clean.iterdir()) == []


BROKEN = {
    "encoder's batch": (".permute(0, 2, 3, 1)", ".permute(0, 2, 3, 1) + pixels_BCHW.mean()", "differs by up to"),
    "encoder's grid": (".permute(0, 2, 3, 1)", "", "shape"),
    "fusion's cost": ("2.0 * grid.values", "1.0 * grid.values", "operations, PyTorch counts"),
    "fusion's gradient": ("* self.weights)", "* self.weights.detach())", "no gradient reaches weights"),
    "projector's shape": ("nn.Linear(dim, width)", "nn.Linear(dim, width + 1)", "promised"),
    "benchmark's scores": ("return float(answer", "return 2.0 - float(answer", "outside"),
    "strategy's end": (
        "return missing([mixture.seeded(seed) for seed in self.seeds], trials)",
        "return tuple(mixture.seeded(seed) for seed in self.seeds)",
        "what is done already",
    ),
}
"""By part: what is written otherwise, and what the check then says."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_part_is_told_what_it_breaks(name: str, clean: Path) -> None:
    what, (before, after, problem) = name.partition("'")[0], BROKEN[name]
    new_part(what, f"bad_{what}", clean)
    path = clean / f"bad_{what}.py"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    result = check_parts(path.name)
    problems = [row[2] for row in result.tables[0][2] if row[2] != "kept"]
    assert result.status == 1
    assert any(problem in found for found in problems), problems


def test_check_part_refuses_what_is_no_part(clean: Path) -> None:
    (clean / "empty.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match="declares no part"):
        check_parts("empty.py")
    with pytest.raises(ConfigError, match=r"gone\.py: no such file"):
        check_parts("gone.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_this_name", "imports 'nothing_of_this_name', which is not installed"),
        ("def (", "cannot be imported: SyntaxError"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("from typing import Literal\nfrom ommatidia.models.fusion.fusion import GridFusionConfig\n"
         "class A(GridFusionConfig):\n    kind: Literal['channel_concat'] = 'channel_concat'\n", "already taken"),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_one_line(text: str, said: str, clean: Path) -> None:
    (clean / "mine_bad.py").write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        import_parts("mine_bad.py")
    assert "\n" not in str(error.value)


def test_a_file_with_the_name_of_another_module_is_refused(clean: Path) -> None:
    (clean / "json.py").write_text("")
    with pytest.raises(ConfigError, match="another module is called 'json'"):
        import_parts("json.py")
    with pytest.raises(ConfigError, match="expected a module such as"):
        import_parts("my parts")


def test_what_a_file_names_is_imported_only_where_that_is_allowed(clean: Path) -> None:
    (clean / "wanted_parts.py").write_text("open('ran', 'w').close()\n")
    with pytest.raises(ConfigError, match=r"--import wanted_parts\.py .*or --allow-imports"):
        require_parts(["wanted_parts"], "a folder")
    assert not (clean / "ran").exists()
    with allow_imports():
        require_parts(["wanted_parts"])
    assert (clean / "ran").exists()
    require_parts(["wanted_parts"])  # what is imported already is no question


@pytest.mark.parametrize("names", ["wanted", 3, [3], ["../evil"], ["a b"], ["os; rm"], {"x": 1}])
def test_imports_that_are_no_list_of_modules(names: Any) -> None:
    with allow_imports(), pytest.raises(ConfigError, match="imports"):
        require_parts(names)


def test_an_installed_package_s_parts_are_there(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_part("fusion", "installed_fusion", clean)
    sys.path.append(str(clean))
    entry = importlib.metadata.EntryPoint("mine", "installed_fusion", "ommatidia.parts")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [entry])
    load_installed_parts.cache_clear()
    try:
        assert FusionConfig.parse({"kind": "installed_fusion", "dim": 3}).to_dict()["dim"] == 3
    finally:
        load_installed_parts.cache_clear()


def test_an_edited_part_is_another_part(clean: Path) -> None:
    new_part("encoder", "edited_encoder", clean)
    import_parts("edited_encoder.py")
    tiny = EncoderConfig.kinds()["edited_encoder"].tiny  # type: ignore[attr-defined]
    before = tiny().digest()
    assert (tiny().digest(), outside_modules(tiny())) == (before, ("edited_encoder",))
    path = clean / "edited_encoder.py"
    path.write_text(path.read_text().replace("nn.GELU()", "nn.ReLU()"))
    code_digest.cache_clear()  # as in another process
    assert tiny().digest() != before
    assert outside_modules(EncoderConfig.parse("efficientnet_lite0@64")) == ()


@pytest.mark.slow
def test_every_command_takes_an_own_part(searched: Path) -> None:
    model = "runs/mine/model"
    assert omma(searched, "report", "mine", *ALL, "--out", "again").returncode == 0
    assert omma(searched, "chat", model, "What?", "--image", "runs/mine/example.png", *ALL).returncode == 0
    (searched / "b.yaml").write_text("- {kind: my_benchmark, name: colour, group: vision_centric, questions: 4}\n")
    assert omma(searched, "eval", model, "--benchmarks", "b.yaml", "--out", "e", *ALL).returncode == 0
    assert omma(searched, "export", model, "exported", *ALL).returncode == 0
    assert omma(searched, "plan", "mine.py:search").returncode == 0
    shown = omma(searched, "show", "mine.py:search", "--yaml")
    (searched / "mine.yaml").write_text(shown.stdout)
    refused = omma(searched, "plan", "mine.yaml")
    assert refused.returncode == 1
    assert "--import my_strategy.py" in said(refused)
    assert omma(searched, "plan", "mine.yaml", *ALL).returncode == 0
    again = omma(searched, "search", "mine.yaml", "--allow-imports", "--json")
    assert again.returncode == 0, said(again)
    assert json.loads(again.stdout)["executed"] == 0


@pytest.mark.slow
def test_a_model_with_an_own_part_is_refused_politely(searched: Path) -> None:
    for command in (["chat", "runs/mine/model", "What?"], ["report", "mine"], ["export", "runs/mine/model", "x"]):
        done = omma(searched, *command)
        assert done.returncode == 1
        assert "which is code that has not been imported" in said(done)
        assert "Traceback" not in said(done)
    with pytest.raises(ConfigError, match="import_parts"):
        load(searched / "runs" / "mine" / "model")


@pytest.mark.slow
def test_an_edited_part_is_made_again(searched: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(searched, tmp_path / "copy")
    path = tmp_path / "copy" / "my_benchmark.py"
    path.write_text(path.read_text().replace("Which colour is this?", "What colour is it?"))
    done = omma(tmp_path / "copy", "search", "mine.py:search", "--json")
    assert done.returncode == 0, said(done)
    told = json.loads(done.stdout)
    assert told["executed"] > 0
    assert told["reused"] > 0


def test_a_recipe_names_its_imports(clean: Path) -> None:
    from ommatidia.recipes.quickstart import design

    data = design().to_dict()
    assert data["imports"] == []
    new_part("fusion", "named_fusion", clean)
    with pytest.raises(ConfigError, match="named_fusion"):
        Recipe.parse({**data, "imports": ["named_fusion.py"]})
    import_parts("named_fusion.py")
    data["model"]["fusion"] = {"kind": "named_fusion", "grid": [2, 2], "dim": 8}
    assert Recipe.parse(data).to_dict()["imports"] == ["named_fusion"]
    named = Recipe.parse({**data, "imports": ["named_fusion.py"]})
    assert named.to_dict()["imports"] == ["named_fusion.py"]
    assert named.digest() == Recipe.parse(data).digest()
    assert dedent(named.to_yaml()).count("named_fusion") == 2
