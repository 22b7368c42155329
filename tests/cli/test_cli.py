"""The command line: results on stdout, one clear line on stderr, and an exit code that says how it went."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_toys import benchmark, recipe, round_robin
from PIL import Image

import ommatidia
from ommatidia import cli
from ommatidia.core import malloc
from ommatidia.core.config import Config
from ommatidia.models.build import build_model
from ommatidia.models.pretrained import save


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def words(self) -> str:
        """The error text on one line: terminals may wrap it."""
        return " ".join(self.err.split())


Omma = Callable[..., Said]


@pytest.fixture
def omma(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Omma:
    """Runs the command line inside this process, in an empty folder."""
    monkeypatch.setattr(malloc, "keep_memory", lambda: False)  # it would change this process for good
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["omma", *arguments])
        capsys.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return Said(int(code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, and an image beside it."""
    folder = tmp_path_factory.mktemp("saved")
    cfg = recipe("coarse").model
    Image.new("RGB", (40, 30), (20, 200, 20)).save(folder / "green.png")
    return save(build_model(cfg, seed=0), cfg, folder / "model")


def written(value: Config, path: Path) -> str:
    path.write_text(value.to_yaml(), encoding="utf-8")
    return str(path)


def test_help_and_version(omma: Omma) -> None:
    assert omma("--version").out.strip() == ommatidia.__version__
    said = omma("--help")
    assert said.code == 0
    for command in ("ls", "show", "plan", "run", "search", "eval", "score", "fetch", "report", "chat", "inspect"):
        assert command in said.out
        assert omma(command, "--help").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspct"], "No such command 'inspct'. Did you mean 'inspect'?"),
        (["ls", "--colour"], "No such option: --colour"),
        (["chat"], "Missing argument 'checkpoint'"),
        (["eval", "model"], "Missing option '--benchmarks'"),
        (["inspect", "model", "--index", "-1"], "Invalid value for '--index'"),
    ],
)
def test_a_mistyped_command_is_refused_with_code_2(omma: Omma, arguments: list[str], says: str) -> None:
    said = omma(*arguments)
    assert said.code == 2
    assert says in said.words
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "ommatidia.recipes.quikstart:search"], "did you mean 'ommatidia.recipes.quickstart'?"),
        (["show", "ommatidia.recipes.quickstart:serch"], "did you mean 'search'?"),
        (["show", "quickstart"], "expected a YAML file, module:function or file.py:function"),
        (["plan", "none.yaml"], "none.yaml: No such file"),
        (["show", "torn.yaml"], "torn.yaml: not valid YAML or JSON"),
        (["show", "number.yaml"], "number.yaml: "),
        (["ls", "encoder"], "unknown family 'encoder'; did you mean 'encoders'?"),
        (["ls", "fusion"], "did you mean 'fusions'?"),
        (["run", "tiny.yaml", "--set", "stages.1"], "expected PATH=VALUE"),
        (["run", "tiny.yaml", "--set", "stages.9.steps=3"], "'9' is no position in a list of 3"),
        (["run", "tiny.yaml", "--set", "stages.1.step=3"], "did you mean 'steps'?"),
        (["run", "tiny.yaml", "--set", "stages.1.steps=0"], "stages.1.steps: "),
        (["run", "tiny.yaml", "--set", "model.projector=mpl"], "did you mean 'mlp'?"),
        (["run", "tiny.yaml", "seed=1"], "a file takes no arguments (seed); use --set"),
        (["run", "search.yaml"], "is a search; use omma search"),
        (["search", "tiny.yaml"], "is one recipe; use omma run"),
        (["report"], "no search or run has been made in this store"),
        (["chat", "nowhere"], "expected a folder saved by ommatidia"),
        (["eval", "nowhere", "--benchmarks", "chart"], "unknown benchmark 'chart'; did you mean 'charts'?"),
        (["eval", "nowhere", "--benchmarks", "counts"], "expected a folder saved by ommatidia"),
        (["eval", "nowhere", "--benchmarks", "torn.yaml"], "torn.yaml: not valid YAML"),
        (["eval", "nowhere", "--benchmarks", "pope", "--data", "none"], "pope: none/POPE is no folder"),
        (["eval", "nowhere", "--benchmarks", "pope", "--prompt", "camb"], "did you mean 'cambrian'?"),
        (["score", "none.jsonl"], "none.run.json: not there, so what none.jsonl answers is unknown"),
        (["score", "none.jsonl", "--benchmark", "counts"], "none.jsonl: cannot read the answers"),
        (["fetch", "counts"], "counts: it is made here and needs no data"),
        (["inspect", "tiny.yaml", "--stage", "tunne"], "did you mean 'tune'?"),
    ],
)
def test_a_mistake_is_one_clear_line_and_code_1(omma: Omma, tmp_path: Path, arguments: list[str], says: str) -> None:
    written(recipe("coarse"), tmp_path / "tiny.yaml")
    written(round_robin(), tmp_path / "search.yaml")
    (tmp_path / "torn.yaml").write_text("a: [1, 2")
    (tmp_path / "number.yaml").write_text("5")
    said = omma(*arguments)
    assert said.code == 1
    assert says in said.words
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert said.out == ""
    in_json = omma(*arguments, "--json")
    assert (in_json.code, in_json.out) == (1, "")


def test_debug_shows_the_traceback(omma: Omma) -> None:
    from ommatidia.core.errors import ConfigError

    with pytest.raises(ConfigError):
        omma("--debug", "ls", "encoder")
    with pytest.raises(ConfigError):
        omma("ls", "encoder", "--debug")


def test_an_interrupt_says_where_the_work_stands(omma: Omma, monkeypatch: pytest.MonkeyPatch) -> None:
    from ommatidia.lab.show import listing

    for text, says in (("", "the same command goes on from what is finished"), ("saved in x", "saved in x")):

        def interrupted(what: str | None, text: str = text) -> None:
            raise KeyboardInterrupt(text)

        monkeypatch.setattr(listing, "listing", interrupted)
        said = omma("ls")
        assert said.code == 130
        assert says in said.words


def test_ls_prints_a_table_or_one_document(omma: Omma, monkeypatch: pytest.MonkeyPatch) -> None:
    from ommatidia.lab.show import listing

    few = {name: card for name, card in listing.CATALOG.items() if name in ("patches", "vit_tiny_untrained")}
    monkeypatch.setattr(listing, "CATALOG", few)
    said = omma("ls", "encoders")
    assert said.code == 0
    assert said.err == ""
    assert all(name in said.out for name in few)
    tables = omma("--json", "ls", "encoders").data
    assert list(tables) == ["encoders", "encoder-sources"]
    assert all([row["name"] for row in rows] == list(few) for rows in tables.values())
    assert set(omma("ls", "--json").data) >= {"encoders", "fusions", "recipes", "benchmarks"}
    assert omma("ls", "fusions", "--json").data == omma("--json", "ls", "fusions").data


def test_show_prints_what_comes_back_equal(omma: Omma, tmp_path: Path) -> None:
    from ommatidia.lab.recipe import Recipe

    path = written(recipe("coarse", "fine"), tmp_path / "tiny.yaml")
    data = omma("show", path, "--json", "--set", "stages.2.steps=7", "--set", "seed=3").data
    shown = Recipe.parse(data["config"])
    assert (shown.stages[2].steps, shown.seed) == (7, 3)
    assert shown.model == recipe("coarse", "fine").model
    assert data["tables"]["parts"][-1]["part"] == "total"
    words = omma("show", path).out
    assert Recipe.parse(yaml.safe_load(words[: words.index("\nparts")])) == recipe("coarse", "fine")
    assert omma("show", "ommatidia.recipes.quickstart:design", "seed=5", "--json").data["config"]["seed"] == 5


def test_plan_prices_without_running(omma: Omma, tmp_path: Path) -> None:
    path = written(round_robin(), tmp_path / "search.yaml")
    data = omma("--json", "plan", path, "--store", "kept").data
    assert data["summary"]["nodes"] == len(data["nodes"])
    assert data["summary"]["trials"] == len(round_robin().strategy.horizon())
    assert {node["state"] for node in data["nodes"]} == {"to do"}
    assert not (tmp_path / "kept").exists()
    assert f"nodes: {len(data['nodes'])}" in omma("plan", path, "--store", "kept").out


def test_run_report_and_run_again(omma: Omma, tmp_path: Path) -> None:
    path = written(recipe("coarse"), tmp_path / "tiny.yaml")
    first = omma("run", path, "--store", "kept", "--out", "made", "--json")
    assert (first.code, first.err) == (0, "")
    assert first.data["model"] == "made/model"
    assert set(first.data["scores"]) == {f"{b}/{mode}" for b in ("attributes", "counts") for mode in ("full", "blind")}
    again = omma("run", path, "--store", "kept", "--out", "made", "--quiet")
    assert again.code == 0
    assert "0 nodes done in 0 s" in again.out
    assert "scores" in again.out
    told = omma("report", "tiny-seed0", "--store", "kept", "--out", "page", "--json").data
    assert Path(told["report"]).is_file()
    wrong = omma("report", "tiny-seed1", "--store", "kept")
    assert "unknown search 'tiny-seed1'; did you mean 'tiny-seed0'?" in wrong.words
    assert "run tiny.yaml" in (tmp_path / "page" / "report.md").read_text().replace(str(tmp_path) + "/", "")
    # The command it ends with works as it is printed.
    line = next(line for line in again.out.splitlines() if line.startswith("try:"))
    words = line.partition("omma ")[2]
    import shlex

    assert omma(*shlex.split(words), "--max-new-tokens", "2").code == 0


def test_a_search_is_run_from_a_file(omma: Omma, tmp_path: Path) -> None:
    from lab_toys import singles

    path = written(singles(), tmp_path / "search.yaml")
    said = omma("search", path, "--store", "kept", "--json")
    assert said.code == 0
    assert [t["error"] for t in said.data["trials"]] == [None, None]
    assert said.data["failed"] == {}
    assert Path(said.data["report"]).is_file()
    assert (tmp_path / "runs" / "singles" / "model" / "config.json").is_file()


def test_chat_answers_one_question(omma: Omma, model: Path) -> None:
    picture = str(model.parent / "green.png")
    asked = ["chat", str(model), "What colour?", "--image", picture, "--max-new-tokens", "3"]
    data = omma(*asked, "--json").data
    assert (data["question"], data["images"]) == ("What colour?", [picture])
    assert omma(*asked).out.strip() == data["answer"].strip()


def test_chat_refuses_a_missing_or_broken_picture(omma: Omma, model: Path, tmp_path: Path) -> None:
    missing = omma("chat", str(model), "What?", "--image", "none.png")
    assert missing.code == 1
    assert missing.words == "error: none.png: no such file or directory; expected JPEG, PNG, WebP, GIF, BMP or TIFF"
    (tmp_path / "torn.png").write_bytes((model.parent / "green.png").read_bytes()[:50])
    assert "torn.png: broken or truncated image" in omma("chat", str(model), "What?", "--image", "torn.png").words


def test_a_dialogue_ends_with_an_empty_line(omma: Omma, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["Hello", "And now?", ""])
    monkeypatch.setattr("builtins.input", lambda *_: next(lines))
    said = omma("chat", str(model), "--max-new-tokens", "2")
    assert said.code == 0
    assert len(said.out.splitlines()) >= 2
    assert next(lines, "used up") == "used up"


def test_inspect_writes_a_picture(omma: Omma, model: Path, tmp_path: Path) -> None:
    path = written(recipe("coarse"), tmp_path / "tiny.yaml")
    said = omma("inspect", path, "--out", "look.png", "--json")
    assert said.data["picture"] == "look.png"
    assert said.data["visual_tokens"] == 4
    with Image.open(tmp_path / "look.png") as picture:
        assert picture.format == "PNG"
    seen = omma("inspect", str(model), "--image", str(model.parent / "green.png"), "--out", "seen.png")
    assert "image: seen.png" in seen.out
    assert (tmp_path / "seen.png").is_file()


def test_eval_scores_a_saved_model_and_goes_on(omma: Omma, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump([benchmark("counts", "vision_centric")]))
    said = omma("eval", str(model), "--benchmarks", "mine.yaml", "--out", "answers", "--limit", "5", "--json")
    assert (said.code, said.err) == (0, "")
    assert {name: s["n"] for name, s in said.data["scores"].items()} == {"counts/full": 5, "counts/blind": 5}
    lines = (tmp_path / "answers" / "counts.full.jsonl").read_text().splitlines()
    again = omma("eval", str(model), "--benchmarks", "mine.yaml", "--out", "answers", "--limit", "5", "--json")
    assert again.data == said.data
    assert (tmp_path / "answers" / "counts.full.jsonl").read_text().splitlines() == lines
    other = omma("eval", str(model), "--benchmarks", "mine.yaml", "--out", "once", "--no-blind", "--limit", "3")
    assert {p.name for p in (tmp_path / "once").iterdir()} == {"counts.full.jsonl", "counts.full.run.json"}
    assert "counts" in other.out
    answers = "answers/counts.full.jsonl"
    scored = omma("score", answers, "--json").data["scores"][answers]
    assert scored == said.data["scores"]["counts/full"]
    assert "expected 'words'" in omma("score", answers, "--benchmark", "words").words


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ommatidia.cli", "show", "none.yaml"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == "error: none.yaml: No such file or directory\n"
    assert done.stdout == ""
