"""What was done stays true: a node is made again when any byte that it read is another, and only then."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lab_toys import recipe_data
from PIL import Image, ImageDraw
from transformers import LlamaConfig, LlamaForCausalLM

from ommatidia.core import files
from ommatidia.core.console import Console, use
from ommatidia.lab.nodes.inputs import changed_inputs, skipped
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import TrainingJob
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.execute import RunResult, execute
from ommatidia.lab.run.plan import Plan
from ommatidia.models.language.scratch import ScratchLanguage

COLOURS = ("red", "green", "blue")


def paint(folder: Path, *, shift: int = 0, cut: int = 0) -> None:
    """Twelve images of three colours; the first ``cut`` of them are truncated."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(12):
        image = Image.new("RGB", (32, 32), "white")
        ImageDraw.Draw(image).rectangle([4, 4, 8 + number, 28], fill=COLOURS[(number + shift) % 3])
        path = folder / f"{number}.png"
        image.save(path)
        if number < cut:
            path.write_bytes(path.read_bytes()[:60])


def project(folder: Path, **looks: int) -> Path:
    """A LLaVA file with its images."""
    paint(folder / "pics", **looks)
    records = [
        {
            "id": f"r{number}",
            "image": f"{number}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhich colour?"},
                {"from": "gpt", "value": COLOURS[number % 3]},
            ],
        }
        for number in range(12)
    ]
    (folder / "mine.json").write_text(json.dumps(records))
    return folder


def source(folder: Path, split: str) -> dict[str, Any]:
    place = {"path": str(folder / "mine.json"), "image_root": str(folder / "pics")}
    return {"kind": "llava_json", **place, "split": split, "holdout": 0.3}


def design(folder: Path, *, tolerance: float = 0.0, language: dict[str, Any] | None = None) -> Recipe:
    """One expert with stored features, one stage, one benchmark: the held-out images."""
    data = recipe_data("coarse", steps=4)
    mine = {"sources": {"mine": {"source": source(folder, "train")}}, "tolerance": tolerance}
    data["stages"] = [data["stages"][-1] | {"data": mine, "batch": 4}]
    held_out = {"kind": "source", "name": "held_out", "group": "general", "source": source(folder, "held_out")}
    data["benchmarks"] = [held_out | {"scorer": {"kind": "exact"}, "max_new_tokens": 3, "tolerance": tolerance}]
    if language is not None:
        data["model"] |= {"language": language}
    return Recipe.parse(data)


def carry_out(store: Store, recipe: Recipe, console: Console | None = None) -> tuple[Plan, RunResult]:
    plan = Plan.of([recipe])
    with use(console or Console(quiet=True)), store.writing():
        return plan, execute(plan, store)


def kinds(plan: Plan, keys: list[str]) -> Counter[str]:
    return Counter(plan.jobs[key].kind for key in keys)


def weights(plan: Plan, store: Store) -> bytes:
    job = plan.trials[0].training[-1]
    return (job.folder(store) / "trained.safetensors").read_bytes()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMMATIDIA_CACHE", str(tmp_path / "cache"))


def test_repainted_pictures_make_again_what_read_them(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), project(tmp_path / "a")
    first, result = carry_out(store, design(folder))
    assert kinds(first, result.executed) == {"features": 2, "training": 1, "prediction": 2, "gallery": 1}
    for path in folder.rglob("*.*"):
        os.utime(path)
    assert not carry_out(store, design(folder))[1].executed
    paint(folder / "pics", shift=2)
    second, result = carry_out(store, design(folder))
    assert not result.reused
    assert kinds(second, result.executed) == kinds(first, list(first.jobs))
    fresh = Store(tmp_path / "fresh")
    assert weights(carry_out(fresh, design(folder))[0], fresh) == weights(second, store) != weights(first, store)


def test_two_projects_with_the_same_names_stand_apart_and_a_copy_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    ran = []
    for name, shift in (("a", 0), ("b", 1), ("copy of a", 0)):
        project(tmp_path / name, shift=shift)
        monkeypatch.chdir(tmp_path / name)
        ran.append(len(carry_out(store, design(Path()))[1].executed))
    assert ran == [6, 6, 0]
    assert not carry_out(store, design(tmp_path / "a"))[1].executed


def test_mended_pictures_are_learned_and_until_then_the_skipped_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, folder = Store(tmp_path / "store"), project(tmp_path / "a", cut=4)
    plan, result = carry_out(store, design(folder, tolerance=0.6))
    assert not result.failed
    told = {job.kind: skipped(store.record(job.kind, key)) for key, job in plan.jobs.items()}
    assert any(told.values())
    capsys.readouterr()
    assert not carry_out(store, design(folder, tolerance=0.6), Console())[1].executed
    said = capsys.readouterr().err
    shown = [job for key, job in plan.jobs.items() if skipped(store.record(job.kind, key))]
    assert said.count("skipped when it was made; the first: ") == len(shown) >= 2
    paint(folder / "pics")
    again, result = carry_out(store, design(folder, tolerance=0.6))
    assert kinds(again, result.executed)["training"] == 1
    assert not any(skipped(store.record(job.kind, key)) for key, job in again.jobs.items())


def test_a_mended_held_out_record_costs_no_training(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), project(tmp_path / "a")
    recipe = design(folder)
    carry_out(store, recipe)
    (held_out, *_) = recipe.benchmarks[0].open().samples()
    path = folder / "mine.json"
    records = json.loads(path.read_text())
    next(one for one in records if one["id"] == held_out.id)["conversations"][1]["value"] = "mended"
    path.write_text(json.dumps(records))
    plan, result = carry_out(store, design(folder))
    assert kinds(plan, result.executed) == {"features": 1, "prediction": 2, "gallery": 1}
    assert kinds(plan, result.reused) == {"features": 1, "training": 1}


def test_data_that_change_while_a_node_runs_store_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = Store(tmp_path / "store"), project(tmp_path / "a")
    run = TrainingJob.execute

    def repainted(self: TrainingJob, *places: Any) -> dict[str, Any]:
        notes = run(self, *places)
        paint(folder / "pics", shift=1)
        return notes

    with monkeypatch.context() as patched:
        patched.setattr(TrainingJob, "execute", repainted)
        plan, result = carry_out(store, design(folder))
    (key,) = [job.key for job in plan.trials[0].training]
    assert "what it reads has changed since it began: data/mine (" in result.failed[key]
    assert ".png" in result.failed[key]
    assert not store.has("training", key)
    later, result = carry_out(store, design(folder))
    assert not result.failed
    assert later.trials[0].training[0].key != key


def test_data_that_change_between_plan_and_run_are_named(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), project(tmp_path / "a")
    carry_out(store, design(folder))
    plan = Plan.of([design(folder)])
    shutil.rmtree(store.root / "nodes" / "training")
    store = Store(store.root)
    paint(folder / "pics", shift=1)
    with use(Console(quiet=True)), store.writing():
        result = execute(plan, store)
    (message,) = [text for key, text in result.failed.items() if plan.jobs[key].kind == "training"]
    assert "has changed since it was planned: data/mine (" in message


def test_a_finished_node_says_which_file_is_another(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), project(tmp_path / "a")
    plan, _ = carry_out(store, design(folder))
    job = plan.trials[0].training[0]
    record = store.record("training", job.key)
    assert set(record["inputs"]) == {"data/mine", "language"}
    listed = store.inputs(record["inputs"]["data/mine"])
    assert listed is not None
    name = [name for name, _, _ in listed if name.endswith(".png")][1]
    assert not changed_inputs(job, record["inputs"], store)
    (folder / "pics" / name).unlink()
    assert changed_inputs(job, record["inputs"], store) == {"data/mine": [name]}
    (folder / "mine.json").unlink()
    assert "mine.json" in next(iter(changed_inputs(job, record["inputs"], store)))


def test_planning_looks_at_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path / "a")
    looked, digest_files = list[str](), files.digest_files
    monkeypatch.setattr(
        "ommatidia.core.contents.digest_files", lambda paths: (looked.extend(paths), digest_files(paths))[1]
    )
    plan = Plan.of([design(folder), design(folder)])
    pictures = Counter(path for path in looked if path.endswith(".png"))
    assert len(pictures) == 12
    assert set(pictures.values()) == {1}
    assert len(plan.jobs) == 6


def test_a_language_model_changed_in_the_middle_is_another(tmp_path: Path) -> None:
    store, folder, place = Store(tmp_path / "store"), project(tmp_path / "a"), tmp_path / "lm"
    tokenizer = ScratchLanguage().tokenizer()
    shape = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, pad_token_id=tokenizer.pad_id))
    model.save_pretrained(place)
    tokenizer.inner.save_pretrained(place)

    def run(path: Path) -> int:
        return len(carry_out(store, design(folder, language={"kind": "hf", "path": str(path)}))[1].executed)

    assert run(place) == 6
    assert run(place) == 0
    (place / ".cache" / "huggingface").mkdir(parents=True)  # as a download tool leaves it
    (place / "original").mkdir()
    (place / "README.md").write_text("about it")
    (place / ".gitattributes").write_text("*.safetensors")
    assert run(place) == 0
    place = place.rename(tmp_path / "renamed")
    assert run(place) == 0
    weights = place / "model.safetensors"
    data, times = bytearray(weights.read_bytes()), weights.stat()
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(place) == 3  # the training and its answers, with and without images; no features, no gallery
