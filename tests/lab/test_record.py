"""What was done is written down when it is done: a report plans nothing, opens no data and changes nothing."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from lab_toys import COARSE, COMMAND, FINE, recipe_data, round_robin, singles
from PIL import Image

from ommatidia.core.console import Console, use
from ommatidia.core.errors import RunError
from ommatidia.core.source import SourceConfig
from ommatidia.eval.benchmark import BenchmarkConfig, SourceBenchmark
from ommatidia.eval.scoring.exact import ExactScorer
from ommatidia.lab.drive import drive_search, report_search, run_recipe
from ommatidia.lab.nodes.prediction import PredictionJob
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import TrainingJob
from ommatidia.lab.run.followup import read_analyses
from ommatidia.lab.run.plan import Plan, plan_trial
from ommatidia.lab.run.record import SearchRecord, load_record, save_record
from ommatidia.lab.run.recorder import Recorder
from ommatidia.lab.search import Search
from ommatidia.lab.search.search import recall, run_search

if TYPE_CHECKING:
    from conftest import Searched

WITH = read_analyses("audit,ablation")
NAME = "tiny"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with use(Console(quiet=True)):
        yield


@pytest.fixture(scope="module")
def kept(searched: Searched, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of the finished search with two analyses; tests only read it."""
    folder = tmp_path_factory.mktemp("kept")
    shutil.copytree(searched.store.root, folder / "store")
    with use(Console(quiet=True)):
        report_search(Store(folder / "store"), NAME, out=folder / "out", analyses=WITH)
    return Store(folder / "store")


def copy(store: Store, folder: Path) -> Store:
    shutil.copytree(store.root, folder / "store")
    return Store(folder / "store")


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def drawn(store: Store, out: Path, **options: Any) -> str:
    """report.json of a store, looked at as by a new process."""
    page = report_search(Store(store.root), NAME, out=out, **options)
    return page.with_name("report.json").read_text(encoding="utf-8")


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever plans or opens data raises."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a report plans nothing and opens no data")

    monkeypatch.setattr(Plan, "of", forbidden)
    for name, module in list(sys.modules.items()):
        if name.startswith("ommatidia.") and getattr(module, "plan_trial", None) is plan_trial:
            monkeypatch.setattr(module, "plan_trial", forbidden)
    for family in (SourceConfig, BenchmarkConfig):
        for member in {family, *family.kinds().values()}:
            for method in ("open", "fingerprint", "questions_fingerprint"):
                if hasattr(member, method):
                    monkeypatch.setattr(member, method, forbidden)


def test_a_report_plans_nothing_opens_no_data_and_leaves_the_store_as_it_is(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = drawn(kept, tmp_path / "first")
    before = tree(kept.root)
    forbid_work(monkeypatch)
    kept.root.chmod(0o500)
    try:
        assert drawn(kept, tmp_path / "second") == first
        # Analyses that are made and recorded are not made, nor planned, again.
        assert drawn(kept, tmp_path / "third", analyses=WITH) == first
    finally:
        kept.root.chmod(0o700)
    assert tree(kept.root) == before
    assert json.loads(first)["audit"]["rows"]


def test_versions_raised_since_are_notes_and_change_no_result(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = drawn(kept, tmp_path / "first")
    assert " now; " not in (tmp_path / "first" / "report.md").read_text()
    monkeypatch.setattr(TrainingJob, "version", TrainingJob.version + 1)
    monkeypatch.setattr(PredictionJob, "version", PredictionJob.version + 1)
    monkeypatch.setattr(ExactScorer, "version", ExactScorer.version + 4)
    monkeypatch.setattr(SourceBenchmark, "version", SourceBenchmark.version + 1)
    assert drawn(kept, tmp_path / "second") == first
    for page in ("report.md", "report.html"):
        text = (tmp_path / "second" / page).read_text().replace("&#39;", "'")
        assert f"Scorer 'exact' has version {ExactScorer.version} now; the scores of attributes, counts" in text
        assert "omma report tiny --rescore scores again" in text
        assert f"Nodes of kind 'training' have version {TrainingJob.version} now" in text
        assert f"Nodes of kind 'prediction' have version {PredictionJob.version} now" in text
        assert f"Benchmark 'counts' has version {SourceBenchmark.version} now" in text
        assert "Nodes of kind 'gallery'" not in text


def talk(folder: Path) -> dict[str, Any]:
    """Six painted images on disk with a question each."""
    folder.mkdir()
    records = []
    for number in range(6):
        pixels = np.full((32, 32, 3), 40 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nhow many?"}, {"from": "gpt", "value": str(number % 2)}]
        records.append({"id": f"r{number}", "image": f"{number}.png", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(records))
    return {"kind": "llava_json", "path": str(folder / "data.json"), "image_root": str(folder)}


def on_disk(folder: Path) -> Search:
    """One design that is trained on and asked about the images of ``folder``."""
    source, data = talk(folder), recipe_data("coarse", steps=1)
    data["stages"] = [data["stages"][-1] | {"data": {"sources": {"talk": {"source": source}}}}]
    scorer = {"kind": "exact"}
    data["benchmarks"] = [
        {"kind": "source", "name": "talk", "group": "general", "source": source, "scorer": scorer, "max_new_tokens": 2}
    ]
    strategy = {"kind": "singles", "recipe": data, "pool": {"coarse": COARSE}, "blind": False}
    return Search.parse({"name": NAME, "strategy": strategy})


def test_a_report_stays_when_its_data_grow_or_go(tmp_path: Path) -> None:
    store, data = Store(tmp_path / "store"), tmp_path / "data"
    drive_search(on_disk(data), store, out=tmp_path / "out", command=COMMAND)
    first = (tmp_path / "out" / "report.json").read_text()
    assert json.loads(first)["designs"][0]["average"] is not None
    records = json.loads((data / "data.json").read_text())
    (data / "data.json").write_text(json.dumps([*records, {**records[0], "id": "new"}]))
    assert drawn(store, tmp_path / "out") == first
    with pytest.raises(RunError, match="1 of 7 samples have no answer yet"):
        drawn(store, tmp_path / "out", rescore=True)
    # Another model would be trained today: its analysis is none of the model on the page.
    with pytest.raises(RunError, match=r"audit: .* would be trained or asked otherwise today"):
        drawn(store, tmp_path / "out", analyses=["audit"])
    assert drawn(store, tmp_path / "out") == first
    shutil.rmtree(data)
    record = load_record(store, NAME)
    assert drawn(store, tmp_path / "out") == first
    with pytest.raises(RunError, match="scoring again needs the data of 'talk'"):
        drawn(store, tmp_path / "out", rescore=True)
    assert load_record(store, NAME) == record


def always_right(monkeypatch: pytest.MonkeyPatch) -> int:
    """A later version of the exact scorer, which takes every answer for right."""
    monkeypatch.setattr(ExactScorer, "version", ExactScorer.version + 1)
    monkeypatch.setattr(ExactScorer, "score", lambda self, sample, answer: 1.0)
    return ExactScorer.version


def test_scoring_again_is_asked_for_and_kept_beside_the_nodes(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = copy(kept, tmp_path)
    nodes, first = tree(store.root / "nodes"), drawn(store, tmp_path / "first")
    version = always_right(monkeypatch)
    assert drawn(store, tmp_path / "out") == first
    again = json.loads(drawn(store, tmp_path / "out", rescore=True))
    assert {design["average"]["mean"] for design in again["designs"]} == {1.0}
    assert {row["scores"]["blind"]["mean"] for row in again["audit"]["rows"]} == {1.0}
    assert tree(store.root / "nodes") == nodes
    # Later reports use them without asking, and nothing is said of versions.
    assert json.loads(drawn(store, tmp_path / "later")) == again
    assert " now; " not in (tmp_path / "later" / "report.md").read_text()
    assert {s.scorer_version for t in recall(store, NAME)[1] for s in t.scored.values()} == {version}
    monkeypatch.undo()
    assert drawn(store, tmp_path / "back", rescore=True) == first


def test_a_search_scores_what_it_reuses_by_todays_scorer(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = copy(kept, tmp_path)
    nodes = tree(store.root / "nodes")
    version = always_right(monkeypatch)
    with store.writing():
        result = run_search(round_robin(seeds=[0], finalists=1), store, command=COMMAND)
    shown = {s.scorer_version for t in result.trials for s in t.scored.values()}
    assert shown == {version}
    assert {t.average for t in result.trials} == {1.0}
    asked = {key for t in result.trials if t.entry for key in t.entry.predictions.values()}
    reused = {key for key in asked if f"prediction/{key}" in nodes}
    assert set(result.record.scores) == set(load_record(store, NAME).scores) == reused
    assert reused
    after = tree(store.root / "nodes")
    assert {name: after[name] for name in nodes if name.endswith(".json")} == {
        name: held for name, held in nodes.items() if name.endswith(".json")
    }


def damage(store: Store, kind: str, name: str, text: bytes | None) -> str:
    """Spoil a file of one node; its key."""
    folder = sorted((store.root / "nodes" / kind).iterdir())[0]
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_bytes(text)
    return folder.name


@pytest.mark.parametrize(
    ("kind", "name", "text", "says", "fails"),
    [
        ("training", "trained.safetensors", b"short", "trained.safetensors has 5 bytes, expected", False),
        ("training", "metrics.jsonl", None, "metrics.jsonl is missing", False),
        ("gallery", "cards.json", b"[]", "cards.json does not match its checksum", False),
        ("prediction", "scores.json", b"{}", "scores.json has 2 bytes, expected", True),
        ("prediction", "node.json", b"{", "node.json is damaged", True),
        ("training", "node.json", None, "node.json is missing", True),
    ],
)
def test_a_damaged_node_is_named_left_and_the_rest_is_shown(
    kept: Store, tmp_path: Path, kind: str, name: str, text: bytes | None, says: str, fails: bool
) -> None:
    store = copy(kept, tmp_path)
    key = damage(store, kind, name, text)
    before, record = tree(store.root), load_record(store, NAME)
    report = json.loads(drawn(store, tmp_path / "out"))
    assert tree(store.root) == before
    failed = {design["name"] for design in report["designs"] if design["failed"]}
    assert failed < {design["name"] for design in report["designs"]}
    assert bool(failed) == (fails and key in record.owners)
    if key in record.owners:
        page = (tmp_path / "out" / "report.md").read_text().replace("\\", "")
        assert f"({kind}/{key}): {says}" in page
        assert f"Designs: {', '.join(record.owners[key])}. It was left as it is" in page


def test_a_change_that_keeps_the_size_is_found_where_it_is_read(kept: Store, tmp_path: Path) -> None:
    store = copy(kept, tmp_path)
    record = load_record(store, NAME)
    key = record.trials[0].predictions["counts/full"]
    path = store.folder("prediction", key) / "scores.json"
    path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    report = json.loads(drawn(store, tmp_path / "out"))
    (row,) = [design for design in report["designs"] if design["key"] == record.trials[0].design]
    assert row["failed"] == "answers of language model to counts: damaged: scores.json does not match its checksum"
    assert len([design for design in report["designs"] if design["failed"]]) == 1


def test_what_results_were_made_from_may_go(kept: Store, tmp_path: Path) -> None:
    store = copy(kept, tmp_path)
    first = json.loads(drawn(store, tmp_path / "first"))
    shutil.rmtree(store.root / "nodes" / "checkpoint")
    again = json.loads(drawn(store, tmp_path / "second"))
    assert again == first


def test_a_page_that_shows_more_is_replaced_only_when_asked(kept: Store, tmp_path: Path) -> None:
    store, out = copy(kept, tmp_path), tmp_path / "out"
    drawn(store, out)
    before = tree(out)
    whole = load_record(store, NAME)
    small = whole.model_copy(update={"trials": whole.trials[:2]})
    save_record(small, store)
    with pytest.raises(RunError, match=r"page in place shows \d finished designs, this one 2.*--replace"):
        drawn(store, out)
    # An analysis that is not there any more, and no design at all.
    save_record(whole.model_copy(update={"analyses": {}}), store)
    with pytest.raises(RunError, match="shows 2 analyses, this one 0"):
        drawn(store, out)
    shutil.rmtree(store.root / "nodes" / "prediction")
    with pytest.raises(RunError, match=r"\d finished designs, this one 0"):
        drawn(store, out)
    assert tree(out) == before
    assert json.loads(drawn(store, tmp_path / "other"))["headline"] == ["No design finished."]
    assert json.loads(drawn(store, out, replace=True))["headline"] == ["No design finished."]
    (out / "report.json").write_text("{")
    with pytest.raises(RunError, match="cannot be compared"):
        drawn(store, out)


def test_the_record_is_there_from_the_first_second_and_loses_nothing(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Store(tmp_path / "new")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, new.writing():
        patch.setattr(Plan, "of", stop)
        with pytest.raises(KeyboardInterrupt):
            run_search(singles(), new, command=COMMAND)
    record, trials = recall(new, "singles")
    assert (record.command, record.finished, trials) == (COMMAND, False, [])
    with monkeypatch.context() as patch, new.writing():
        patch.setattr("ommatidia.lab.search.search.execute", stop)
        with pytest.raises(KeyboardInterrupt):
            run_search(singles(), new, command=COMMAND)
    record, trials = recall(new, "singles")
    planned = Plan.of(singles().strategy.first())
    assert [list(entry.nodes) for entry in record.trials] == [[j.key for j in t.jobs()] for t in planned.trials]
    assert {key: node.flops for key, node in record.nodes.items()} == {
        key: job.price().flops for key, job in planned.jobs.items()
    }
    assert sum(entry.flops_alone for entry in record.trials) == planned.unshared_price().flops
    assert {n: (b.group, b.questions, b.scorer) for n, b in record.benchmarks.items()} == {
        "attributes": ("general", 12, "exact"), "counts": ("vision_centric", 12, "exact")
    }  # fmt: skip
    assert all(t.error and "not finished" in t.error for t in trials)
    # The same search begun again, with nodes of another version, and killed: what was known stays known.
    store = copy(kept, tmp_path)
    before = load_record(store, NAME)
    with monkeypatch.context() as patch, store.writing():
        patch.setattr(TrainingJob, "version", TrainingJob.version + 1)
        patch.setattr("ommatidia.lab.search.search.execute", stop)
        with pytest.raises(KeyboardInterrupt):
            run_search(round_robin(), store, command="omma search again")
    after = load_record(store, NAME)
    assert sorted(after.trials, key=str) == sorted(before.trials, key=str)
    assert (after.analyses, after.finished, after.command) == (before.analyses, False, "omma search again")


def test_a_record_of_another_layout_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.write_json("searches/old.json", {"name": "old", "trials": []})
    with pytest.raises(RunError, match=r"old\.json: layout 1, expected 2.*run the search again"):
        load_record(store, "old")
    Recorder.begin(store, "old", command=COMMAND, definition={})
    assert load_record(store, "old") == SearchRecord(name="old", command=COMMAND, definition={})
    store.write_json("searches/odd.json", {**store.read_json("searches/old.json"), "trials": [{"seed": 1}]})
    with pytest.raises(RunError, match=r"odd\.json: trials\.0\.recipe: Field required"):
        load_record(store, "odd")


def test_a_run_of_one_recipe_has_such_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ommatidia.lab.recipe import Recipe

    data = recipe_data("fine", steps=1) | {"modes": ["full"]}
    store, one = Store(tmp_path / "store"), Recipe.parse(data)
    assert FINE["kind"] == one.model.encoders["fine"].to_dict()["kind"]
    run_recipe(one, store, out=tmp_path / "out", command=COMMAND)
    forbid_work(monkeypatch)
    page = report_search(store, None, out=tmp_path / "page")
    report = json.loads(page.with_name("report.json").read_text())
    assert [design["failed"] for design in report["designs"]] == [None]
    assert load_record(store, f"{one.name}-seed0").finished
