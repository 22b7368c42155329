"""Evaluating a saved model: batched as one by one, killed and gone on, scored again without a model."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import datasets
import pytest
import torch
import yaml
from forked import server
from lab_toys import recipe
from published_fixtures import FILES, KEPT, _write, write

from ommatidia.core.console import Console, use
from ommatidia.core.errors import ConfigError, DataError, RunError
from ommatidia.eval.judge import EndpointJudge
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.eval.submission import as_xlsx
from ommatidia.lab.saved.evaluation import Choices, evaluate_checkpoint, model_digest, read_benchmarks
from ommatidia.lab.saved.scoring import score_answers
from ommatidia.models.build import build_model
from ommatidia.models.pretrained import save

SEVERAL = ("pope", "mme", "mmbench", "mmmu", "gqa", "textvqa", "nocaps")
MOST = 4
"""Tokens to generate: the models of these tests have nothing to say."""


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of two experts with matrices large enough that what it sees decides what it says."""
    cfg = recipe("coarse", "vit").model
    cfg = type(cfg).parse(cfg.to_dict() | {"language": {**cfg.language.to_dict(), "context": 1024}})
    built = build_model(cfg, seed=2)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0 if "embed" in name else 6.0)
    return save(built, cfg, tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    for name in SEVERAL:
        write(name, tmp_path / "copies")
    return tmp_path / "copies"


def entries(*names: str) -> list[dict[str, Any]]:
    return [{"kind": name, "size": KEPT.get(name, len(FILES[name][1]())), "max_new_tokens": MOST} for name in names]


def listed(folder: Path, *names: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(entries(*names)))
    return str(path)


def evaluate(model: Path, benchmarks: str, out: Path, **fields: Any) -> Any:
    how = {name: fields.pop(name) for name in ("blind", "batch") if name in fields}
    with use(Console(quiet=True)):
        return evaluate_checkpoint(model, benchmarks, out=out, choices=Choices(**fields), **{"blind": False, **how})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_batched_says_what_one_by_one_says(model: Path, copies: Path, tmp_path: Path) -> None:
    names = listed(tmp_path, *SEVERAL)
    for batch in (1, 5):
        evaluate(model, names, tmp_path / str(batch), data=copies, batch=batch)
    said = set()
    for name in SEVERAL:
        one, many = (
            {line["id"]: line["answer"] for line in lines(tmp_path / batch / f"{name}.full.jsonl")} for batch in "15"
        )
        assert one == many
        said |= set(one.values())
    assert len(said) > len(SEVERAL)


def test_every_made_up_copy_from_end_to_end(model: Path, tmp_path: Path) -> None:
    given = []
    for name in FILES:
        size = write(name, tmp_path / "copies")
        given.append({**BENCHMARKS[name], "size": size, "max_new_tokens": MOST})
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(given))
    done = evaluate(model, str(tmp_path / "all.yaml"), tmp_path / "out", data=tmp_path / "copies")
    assert set(done.data["scores"]) == {f"{name}/full" for name in FILES} - {"mm_vet/full", "llava_bench/full"}
    assert len(done.data["notes"]) == 2
    for result in done.data["scores"].values():
        assert result["n"] > 0
        assert result["prompt"]
        assert result["model"] == model_digest(model)
        assert result["low"] <= result["score"] <= result["high"]


def test_the_record_of_a_sample_and_of_a_result(model: Path, copies: Path, tmp_path: Path) -> None:
    done = evaluate(model, listed(tmp_path, "pope", "mmbench"), tmp_path / "out", data=copies, blind=True)
    for line in lines(tmp_path / "out/pope.full.jsonl"):
        assert set(line) == {"id", "benchmark", "mode", "model", "prompt", "images", "answer", "seconds", "tokens"}
        assert line["model"] == model_digest(model) == done.data["digest"]
        assert (line["seconds"] > 0, len(line["images"]), len(line["prompt"])) == (True, 1, 64)
    scores = done.data["scores"]
    assert set(scores) == {"pope/full", "pope/blind", "mmbench/full", "mmbench/blind"}
    result = scores["mmbench/full"]
    assert (result["prompt"], result["scorer"], result["scorer_version"]) == ("lmms-eval", "mmbench", 4)
    assert (result["n"], result["clusters"], result["judge"], result["confidence"]) == (2, 2, "rules", 0.95)
    assert result["low"] <= result["score"] <= result["high"]
    assert scores["pope/full"]["clusters"] == 2  # twelve questions on two images
    ((_, columns, rows),) = done.tables
    assert [row[0] for row in rows] == ["pope", "mmbench", "average"]
    assert rows[1][columns.index("scorer")] == "mmbench v4, judge rules"


def carry_out(model: str, benchmarks: str, out: str, copies: str, stop: int) -> None:
    """An evaluation in a process of its own, which stands still before its batch number ``stop``."""
    import threading

    from ommatidia.models import sharing

    plain, calls = sharing.generate, [0]

    def generate(*given: Any, **named: Any) -> list[str]:
        calls[0] += 1
        if calls[0] == stop:
            threading.Event().wait()
        return plain(*given, **named)

    sharing.generate = generate  # type: ignore[assignment]
    evaluate(Path(model), benchmarks, Path(out), data=Path(copies), batch=1)


def test_killed_it_goes_on_and_asks_nothing_twice(model: Path, copies: Path, tmp_path: Path) -> None:
    names, out = listed(tmp_path, "pope", "mme"), tmp_path / "out"
    process = server().Process(target=carry_out, args=(str(model), names, str(out), str(copies), 6))
    process.start()
    path = out / "pope.full.jsonl"
    while process.is_alive() and not (path.exists() and path.read_bytes().count(b"\n") >= 4):
        process.join(0.05)
    process.kill()
    process.join()
    assert process.exitcode == -9
    kept = path.read_text()
    assert kept.count("\n") == 4
    with path.open("a") as file:
        file.write('{"id": "torn')
    evaluate(model, names, out, data=copies)
    for name in ("pope", "mme"):
        ids = [line["id"] for line in lines(out / f"{name}.full.jsonl")]
        assert len(ids) == len(set(ids)) == len(FILES[name][1]())
    assert path.read_text().startswith(kept)
    evaluate(model, names, tmp_path / "straight", data=copies)

    def answers(folder: Path) -> dict[str, str]:
        return {line["id"]: line["answer"] for line in lines(folder / "pope.full.jsonl")}

    assert answers(out) == answers(tmp_path / "straight")


def test_prompts_and_shots_have_files_of_their_own(model: Path, copies: Path, tmp_path: Path) -> None:
    names, out = listed(tmp_path, "pope"), tmp_path / "out"
    evaluate(model, names, out, data=copies)
    done = evaluate(model, names, out, data=copies, prompt="official")
    assert done.data["scores"]["pope/full"]["prompt"] == "official"
    done = evaluate(model, names, out, data=copies, shots=2, shots_split="test", limit=6)
    assert done.data["scores"]["pope/full"]["prompt"] == "lmms-eval+2-shot"
    evaluate(model, names, out, data=copies, shots=2, shots_split="test", text_shots=True, limit=6)
    assert sorted(path.name for path in out.glob("*.full.jsonl")) == [
        "pope.full.jsonl", "pope.lmms-eval+2-shot-text.full.jsonl", "pope.lmms-eval+2-shot.full.jsonl",
        "pope.official.full.jsonl",
    ]  # fmt: skip
    assert len(lines(out / "pope.lmms-eval+2-shot.full.jsonl")[0]["images"]) == 3
    assert len(lines(out / "pope.lmms-eval+2-shot-text.full.jsonl")[0]["images"]) == 1


def test_scoring_again_needs_neither_model_nor_torch(model: Path, copies: Path, tmp_path: Path) -> None:
    done = evaluate(model, listed(tmp_path, "pope", "mmbench"), tmp_path / "out", data=copies)
    files = [tmp_path / "out/pope.full.jsonl", tmp_path / "out/mmbench.full.jsonl"]
    with use(Console(quiet=True)):
        again = score_answers(files, benchmark=None, data=None)
    by_name = {one["benchmark"]: one for one in again.data["scores"].values()}
    assert {f"{name}/full": one for name, one in by_name.items()} == done.data["scores"]
    code = (
        "import sys; from ommatidia.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'timm')))"
    )
    told = ["--json", "score", *map(str, files), "--data", str(copies)]
    ran = subprocess.run([sys.executable, "-c", code, *told], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["scores"] == again.data["scores"]


def test_other_files_are_refused(model: Path, copies: Path, tmp_path: Path) -> None:
    evaluate(model, listed(tmp_path, "pope"), tmp_path / "out", data=copies)
    path = tmp_path / "out/pope.full.jsonl"
    with pytest.raises(RunError, match="answers of benchmark 'pope', expected 'mme'"):
        score_answers([path], benchmark="mme", data=copies)
    told = path.with_suffix(".run.json")
    told.write_text(json.dumps({"benchmark": entries("mme")[0] | {"data": str(copies)}}))
    with pytest.raises(RunError, match="answers of benchmark 'pope', expected 'mme'"):
        score_answers([path], benchmark=None, data=None)
    told.unlink()
    with pytest.raises(RunError, match="say it with --benchmark"):
        score_answers([path], benchmark=None, data=copies)
    told.write_text("{}")
    with pytest.raises(RunError, match="not what omma eval writes"):
        score_answers([path], benchmark=None, data=copies)
    other = save(build_model(recipe("coarse").model, seed=0), recipe("coarse").model, tmp_path / "other")
    assert model_digest(other) != model_digest(model)
    with pytest.raises(RunError, match="answers of model"):
        evaluate(other, listed(tmp_path, "pope"), tmp_path / "out", data=copies)


@pytest.mark.parametrize(
    ("names", "fields", "says"),
    [
        ("words", {"data": Path("x")}, "--data: the benchmark 'words' has no such choice"),
        ("words", {"prompt": "cambrian"}, "--prompt: the benchmark 'words' has no such choice"),
        ("pope", {"prompt": "cambrain"}, "did you mean 'cambrian'"),
        ("pope,pop", {}, "unknown benchmark 'pop'; did you mean 'pope'"),
        ("pope,pope", {}, "'pope' is named twice"),
        ("pope", {"text_shots": True}, "add --shots 2"),
    ],
)
def test_choices_that_do_not_fit(names: str, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_benchmarks(names, Choices(**fields))


def test_data_are_checked_before_a_model_is_loaded(copies: Path, tmp_path: Path) -> None:
    for choices, says in ((Choices(), "is no folder"), (Choices(data=copies), "expected 9000; set size=12")):
        with pytest.raises(DataError, match=says):
            evaluate_checkpoint(tmp_path / "no model", "pope", out=tmp_path, choices=choices)


def test_a_benchmark_that_needs_a_judge_keeps_its_answers(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    write("llava_bench", tmp_path / "copies")
    done = evaluate(model, listed(tmp_path, "llava_bench"), tmp_path / "out", data=tmp_path / "copies")
    assert done.data["scores"] == {}
    assert done.lines[0].startswith("llava_bench: not scored, it needs a judge: name one in OMMATIDIA_JUDGE_URL")
    assert len(lines(tmp_path / "out/llava_bench.full.jsonl")) == 3


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_judge_without_verdicts_spares_the_other_benchmarks(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("mm_vet", "pope"):
        write(name, tmp_path / "copies")
    gone = EndpointJudge("http://127.0.0.1:9/v1", "gone", attempts=1)  # nobody listens there
    monkeypatch.setattr(EndpointJudge, "from_environment", classmethod(lambda _: gone))
    done = evaluate(model, listed(tmp_path, "mm_vet", "pope"), tmp_path / "out", data=tmp_path / "copies")
    assert done.lines[0].startswith("mm_vet: not scored, no answer has a verdict; the last: gone: ")
    assert list(done.data["scores"]) == ["pope/full"]
    assert [row[0] for row in done.tables[0][2]] == ["pope", "average"]
    with pytest.raises(SystemExit):
        done.show()
    again = score_answers([tmp_path / f"out/{n}.full.jsonl" for n in ("mm_vet", "pope")], benchmark=None, data=None)
    assert len(again.data["scores"]) == len(again.lines) == 1
    assert again.status


def served(name: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """A copy of a test split, whose answers nobody has, and its entry."""
    place, rows = FILES[name]
    without: list[dict[str, Any]] = rows()
    for row in without:
        row |= {"answers": None} if "answers" in row else {"answer": None}
    base, _, file = place.rpartition("/")
    _write(folder / base / f"test-{file.partition('-')[2]}", without)
    return name, {"kind": name, "split": "test", "size": len(without), "max_new_tokens": MOST}


SUBMITTED = {
    "vqav2": {"question_id": 10},
    "vizwiz": {"image": "VizWiz_val_00000000.jpg"},
    "docvqa": {"questionId": 0},
    "infovqa": {"questionId": 0},
}


def test_test_splits_give_the_servers_file(model: Path, tmp_path: Path) -> None:
    named = dict(served(name, tmp_path / "copies") for name in (*SUBMITTED, "mmbench", "mathvista"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(list(named.values())))
    done = evaluate(model, str(path), tmp_path / "out", data=tmp_path / "copies", blind=True)
    assert (done.data["scores"], len(done.lines)) == ({}, len(named))
    assert not list((tmp_path / "out").glob("*.blind.jsonl"))
    for name, key in SUBMITTED.items():
        file = tmp_path / f"out/{name}.full.submission.json"
        rows = json.loads(file.read_text())
        assert len(rows) == named[name]["size"]
        said = {line["id"]: line["answer"] for line in lines(tmp_path / f"out/{name}.full.jsonl")}
        first = str(next(iter(key.values())))
        assert rows[0] == {**key, "answer": said[first]}
        assert any(str(file) in line for line in done.lines)
    sheet = rows_of(tmp_path / "out/mmbench.full.submission.xlsx")
    columns = ["index", "question", "hint", "A", "B", "C", "D", "category", "L2-category", "prediction"]
    assert sheet[0] == columns
    said = {line["id"]: line["answer"] for line in lines(tmp_path / "out/mmbench.full.jsonl")}
    assert [row[0] for row in sheet[1:]] == ["7", "1000007", "8", "1000008"]
    assert [row[3:5] for row in sheet[1:3]] == [["red", "blue"], ["blue", "red"]]
    assert all(row[-1].split() == said[row[0]].split() for row in sheet[1:])
    with use(Console(quiet=True)):
        again = score_answers([tmp_path / "out/vizwiz.full.jsonl"], benchmark=None, data=None)
    assert "vizwiz: a server scores this split; its file with 2 answers" in again.lines[0]
    kept = json.loads((tmp_path / "out/mathvista.full.submission.json").read_text())
    assert list(kept) == ["1", "2", "3"]
    said = {line["id"]: line["answer"] for line in lines(tmp_path / "out/mathvista.full.jsonl")}
    assert {name: row["response"] for name, row in kept.items()} == {name: text.strip() for name, text in said.items()}
    assert kept["1"]["query"].startswith("Which?\nA. 3/11\nB. 8/11\n")
    assert (kept["2"]["precision"], kept["2"]["metadata"]) == (1.0, {"task": "geometry"})
    assert "decoded_image" not in kept["3"]
    torn = tmp_path / "out/vqav2.full.jsonl"
    torn.write_text("".join(torn.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match="has no answer yet, and the server wants every one"):
        score_answers([torn], benchmark=None, data=None)


def rows_of(path: Path) -> list[list[str]]:
    """The cells of a workbook's only sheet as text."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(path) as file:
        sheet = ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml"))
    return [["".join(cell.itertext()) for cell in row.iter(f"{space}c")] for row in sheet.iter(f"{space}row")]


def test_a_sheet_holds_whatever_a_model_says(tmp_path: Path) -> None:
    said = ["<b>&amp;", " two  spaces ", "line\nbreak", "bell \x07 and \ud800 half", "", "数字"]
    (tmp_path / "x.xlsx").write_bytes(as_xlsx([{"index": n, "prediction": text} for n, text in enumerate(said)]))
    cells = [row[1] for row in rows_of(tmp_path / "x.xlsx")[1:]]
    assert cells == ["<b>&amp;", " two  spaces ", "line\nbreak", "bell  and  half", "", "数字"]
