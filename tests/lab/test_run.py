"""Carrying out: everything once, nothing twice, a failure that stays where it happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from lab_toys import COARSE, COMMAND, FINE, recipe, recipe_data
from safetensors.torch import load_file

from ommatidia.core.console import Console, use
from ommatidia.core.errors import ConfigError, RunError
from ommatidia.lab.drive import drive_search, run_recipe
from ommatidia.lab.nodes.scores import read_scores, read_texts, scores_of_today
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import TrainingJob
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.execute import RunResult, execute
from ommatidia.lab.run.plan import Plan, plan_trial
from ommatidia.lab.run.recorder import record_trial
from ommatidia.lab.run.trial import Trial, collect
from ommatidia.lab.saved.evaluation import Choices, evaluate_checkpoint
from ommatidia.lab.search import Search
from ommatidia.lab.search.search import recall
from ommatidia.models.build import build_model
from ommatidia.models.pretrained import load

if TYPE_CHECKING:
    from conftest import Searched


def carry_out(store: Store, *recipes: Recipe) -> tuple[RunResult, list[Trial]]:
    plan = Plan.of(recipes)
    with use(Console(quiet=True)), store.writing():
        result = execute(plan, store)
    return result, [collect(record_trial(trial), store) for trial in plan.trials]


def files(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_search_delivers_a_model_a_report_and_its_record(searched: Searched) -> None:
    data = searched.driven.data
    assert data["executed"] == sum(1 for _ in (searched.store.root / "nodes").glob("*/*")) - 1  # the model is extra
    assert data["reused"] == 0
    assert data["failed"] == {}
    model, processor = load(data["model"])
    assert " + ".join(processor.config.encoders) in data["best"]
    assert list(model.parts())[-1] == "language"
    assert Path(data["report"]).is_file()
    assert (searched.out / "example.png").is_file()
    assert f"omma chat {data['model']} --image" in searched.driven.lines[-1]
    assert searched.store.searches() == ["tiny"]


def test_the_same_search_again_does_nothing(searched: Searched) -> None:
    before = files(searched.store.root / "nodes")
    with use(Console(quiet=True)):
        again = drive_search(searched.search, Store(searched.store.root), out=searched.out, command=COMMAND)
    assert again.data["executed"] == 0
    assert files(searched.store.root / "nodes") == before
    assert again.data["trials"] == searched.driven.data["trials"]
    assert again.data["best"] == searched.driven.data["best"]


def test_trials_are_read_back_from_the_store_alone(searched: Searched) -> None:
    record, trials = recall(Store(searched.store.root), "tiny")
    assert record.command == COMMAND
    assert Search.parse(record.definition) == searched.search
    told = [(t.recipe.label(), t.recipe.seed, t.average) for t in trials]
    assert told == [(d["design"], d["seed"], d["average"]) for d in searched.driven.data["trials"]]
    assert all(t.seconds > 0 and t.price.flops > 0 for t in trials)
    assert searched.search.strategy.propose(trials) == ()


def test_a_recipe_of_a_search_is_already_done(searched: Searched, tmp_path: Path) -> None:
    record, trials = recall(searched.store, "tiny")
    seen = next(t.recipe for t in trials if t.recipe.label() == "coarse")
    plan = Plan.of([seen])
    assert all(searched.store.has(job.kind, key) for key, job in plan.jobs.items())
    assert [stage.key for stage in record.trials[1].training] == [job.key for job in plan.trials[0].training]


def test_what_a_stage_leaves_is_what_it_trained(searched: Searched) -> None:
    _, trials = recall(searched.store, "tiny")
    seen = next(t.recipe for t in trials if t.recipe.label() == "coarse")
    language, expert, tune = plan_trial(seen).training
    changed = {
        job.stage.name: load_file(job.folder(searched.store) / "trained.safetensors")
        for job in (language, expert, tune)
    }
    parts = {name: {tensor.partition(":")[0] for tensor in state} for name, state in changed.items()}
    assert parts == {
        "language": {"language"},
        "pre-align": {"encoders.coarse", "projector"},
        "tune": {"encoders.coarse", "projector", "language"},
    }
    # The mixture starts from the pre-aligned neck and the spoken language model, but from a projector of its own.
    start = tune.weights.build(searched.store).parts()
    fresh = build_model(seen.model, seed=seen.seed).parts()
    for name, tensor in changed["pre-align"].items():
        part, _, inner = name.partition(":")
        source = changed["pre-align"][name] if part.startswith("encoders.") else fresh[part].state_dict()[inner]
        assert torch.equal(start[part].state_dict()[inner], source), name
        assert tensor.shape == source.shape
    for name, tensor in changed["language"].items():
        assert torch.equal(start["language"].state_dict()[name.partition(":")[2]], tensor)


def test_the_delivered_model_gives_the_answers_that_were_scored(searched: Searched, tmp_path: Path) -> None:
    _, trials = recall(searched.store, "tiny")
    checkpoint = next((searched.store.root / "nodes" / "checkpoint").iterdir())
    owner = next(t.recipe for t in trials if plan_trial(t.recipe).checkpoint.key == checkpoint.name)
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps([b.to_dict() for b in owner.benchmarks]))
    with use(Console(quiet=True)):
        evaluate_checkpoint(Path(searched.driven.data["model"]), str(path), out=tmp_path, choices=Choices())
    for (name, mode), job in plan_trial(owner).predictions.items():
        lines = [json.loads(line) for line in (tmp_path / f"{name}.{mode}.jsonl").read_text().splitlines()]
        said = {line["id"]: line["answer"] for line in lines}
        stored = read_texts(searched.store, job.kind, job.key)
        assert said.keys() == stored.keys()
        # Stored features have 16 bits, so a near tie may fall the other way; more than one would be a mistake.
        assert sum(said[sample] != stored[sample] for sample in said) <= 1


def test_stored_features_hardly_change_the_training(store_folder: Path) -> None:
    store = Store(store_folder)
    stored, plain = recipe("coarse", "vit"), recipe("coarse", "vit", features="never")
    result, (one, other) = carry_out(store, stored, plain)
    assert result.failed == {}

    def losses(one: Recipe) -> list[float]:
        jobs = plan_trial(one).training
        return [store.record(job.kind, job.key)["notes"]["final_loss"] for job in jobs]

    assert losses(stored) != losses(plain)
    assert losses(stored) == pytest.approx(losses(plain), rel=2e-3)
    assert one.error is None
    assert other.error is None
    again, _ = carry_out(Store(store_folder), stored, plain)
    assert again.executed == []
    assert sorted(again.reused) == sorted(result.executed)


def test_a_tiled_design_is_carried_out_from_stored_features(store_folder: Path) -> None:
    store = Store(store_folder)
    tiling = {"kind": "fixed_grid", "rows": 1, "columns": 2, "tile": 16, "tags": "one_d", "whole": ["fine"]}
    model = {**recipe("fine", "vit").model.to_dict(), "tiling": tiling}
    stored, plain = (recipe("fine", "vit", model=model, features=f) for f in ("auto", "never"))
    result, (one, _) = carry_out(store, stored, plain)
    assert result.failed == {}
    assert one.error is None
    last = [plan_trial(r).training[-1] for r in (stored, plain)]
    losses = [store.record(job.kind, job.key)["notes"]["final_loss"] for job in last]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def broken(one: dict[str, Any]) -> dict[str, Any]:
    """An encoder whose values leave the range of 16 bits."""
    return {**one, "std": [1e-30, 1e-30, 1e-30]}


def test_a_failure_stops_what_needs_it_and_nothing_else(store_folder: Path) -> None:
    store = Store(store_folder)
    data = recipe_data("coarse")
    data["model"]["encoders"] = {"bad": broken(FINE)}
    good, bad = recipe("coarse"), Recipe.parse(data)
    result, (failed, fine) = carry_out(store, bad, good)
    assert fine.error is None
    assert len(fine.full) == 2
    assert failed.error is not None
    assert "features of bad" in failed.error
    assert "does not fit 16 bits" in failed.error
    assert failed.full == []
    plan = Plan.of([bad])
    reasons = {plan.jobs[key].label: error for key, error in result.failed.items()}
    assert reasons["pre-align: bad (seed 0)"].startswith("not done, because features of bad")
    assert reasons["tune: bad (seed 0)"] == "not done, because pre-align: bad (seed 0) failed"
    assert [job.label for job in plan.jobs.values() if job.key in result.executed] == [
        "language: language model (seed 0)", "gallery of attributes", "gallery of counts"
    ]  # fmt: skip
    trace = json.loads(next((store_folder / "failures").glob("*.json")).read_text())["traceback"]
    assert "Traceback" in trace
    with pytest.raises(RunError, match="tiny: features of bad"), use(Console(quiet=True)):
        run_recipe(bad, Store(store_folder), out=store_folder.parent / "out", command=COMMAND)


def test_a_search_in_which_every_design_fails_says_so(store_folder: Path) -> None:
    data = recipe_data("coarse")
    search = Search.parse(
        {
            "name": "bad",
            "strategy": {"kind": "singles", "recipe": data, "pool": {"bad": broken(COARSE)}, "blind": False},
        }
    )
    with pytest.raises(RunError, match="every design failed; the first: features of bad"), use(Console(quiet=True)):
        drive_search(search, Store(store_folder), out=store_folder.parent / "out", command=COMMAND)


def test_a_damaged_result_is_made_again_and_equal(store_folder: Path) -> None:
    store = Store(store_folder)
    one = recipe()
    carry_out(store, one)
    job = plan_trial(one).training[-1]
    assert isinstance(job, TrainingJob)
    path = job.folder(store) / "trained.safetensors"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    result, _ = carry_out(Store(store_folder), one)
    assert result.executed == [job.key]
    assert path.read_bytes() == before


def test_a_recipe_is_run_and_delivered(store_folder: Path, tmp_path: Path) -> None:
    with use(Console(quiet=True)):
        driven = run_recipe(recipe(seed=4), Store(store_folder), out=tmp_path / "out", command="omma run tiny")
    assert Path(driven.data["model"]) == tmp_path / "out" / "model"
    assert set(driven.data["scores"]) == {"attributes/full", "counts/full"}
    assert Store(store_folder).searches() == ["blind-seed4"]
    model, _ = load(driven.data["model"])
    assert list(model.parts()) == ["language"]


def test_a_recipe_with_a_judged_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused without a judge before anything is trained; with one its replies are kept, and another scores again."""
    import datasets
    from published_fixtures import write

    from ommatidia.eval.judge import MODEL, URL, EndpointJudge

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv(URL, raising=False)
    size = write("mm_vet", tmp_path / "data")
    judged = {"kind": "mm_vet", "data": tmp_path / "data", "size": size, "max_new_tokens": 3, "prompt": "official"}
    one = Recipe.parse(recipe_data("coarse", steps=1) | {"benchmarks": [judged], "modes": ["full"]})
    store, plan = Store(tmp_path / "store"), Plan.of([one])
    with pytest.raises(ConfigError, match="mm_vet is scored by a language model: name an OpenAI-compatible endpoint"):
        execute(plan, store)
    assert not (store.root / "nodes").exists()
    monkeypatch.setenv(URL, "http://localhost:1/v1")
    monkeypatch.setenv(MODEL, "strict")
    monkeypatch.setattr(EndpointJudge, "ask", lambda self, prompt: "0.2" if self.model == "strict" else "0.9")
    assert not execute(plan, store).failed
    (job,) = plan.trials[0].predictions.values()
    scored = read_scores(store, job.kind, job.key, {})
    assert scored.judge == "strict"
    answers = [text for text in read_texts(store, job.kind, job.key).values() if text]
    assert scored.mean == pytest.approx(0.2 * len(answers) / size)
    ours = (job.benchmark, job.kind, job.key)
    assert scores_of_today([ours], store) == {}
    monkeypatch.setenv(MODEL, "kind")
    assert read_scores(store, job.kind, job.key, {}) == scored  # reading asks nobody
    again = scores_of_today([ours], store)
    kind = read_scores(store, job.kind, job.key, again)
    assert (kind.judge, kind.mean) == ("kind", pytest.approx(0.9 * len(answers) / size))
    monkeypatch.delenv(URL)
    monkeypatch.delenv(MODEL)
    assert scores_of_today([ours], store) == {}  # who judged stands when no other judge is named
    assert read_scores(store, job.kind, job.key, {}) == scored
    assert store.has(job.kind, job.key)
