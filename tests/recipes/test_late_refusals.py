"""What the inputs alone tell is told before the first step: nothing is trained for a run that must end in an error."""

from __future__ import annotations

import importlib.util
import json
from collections import namedtuple

import pytest
import torch
from PIL import Image

from ommatidia.data.llava_json import LlavaJSON

HELD_OUT = 5
"""Of the twelve records, by the hash of their paths."""


def held_out(path) -> list[int]:
    """Numbers of the records that are held out."""
    source = LlavaJSON(path=path, split="held_out", holdout=0.3).open()
    return [int(source[n].id.removeprefix("s")) for n in range(len(source))]


@pytest.fixture
def refused(run_own, tmp_path):
    """The error of a run, before which nothing was done."""

    def call(*data, **given):
        said = run_own(*data, **given)
        assert said.code == 1
        assert "error: " in said.err
        assert "Traceback" not in said.err
        assert not list(tmp_path.glob("store/nodes/*/*")), "refused only after work"
        return said.err

    return call


def ends_with_the_user(folder, records):
    for record in records:
        record["conversations"].append({"from": "human", "value": "and why?"})


def has_empty_answers(folder, records):
    for record in records[::3]:
        record["conversations"][-1]["value"] = " "


def has_one_torn_image(number):
    def spoil(folder, records):
        path = folder / f"{number}.jpg"
        Image.effect_noise((64, 64), 50).convert("RGB").save(path, quality=95)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        # The path decides what is held out: it stays as it was.
        path.replace(folder / f"{number}.png")

    return spoil


def test_dialogues_of_one_id_are_told_apart_and_all_are_asked(own_data, omma, run_own, tmp_path):
    def spoil(folder, records):
        for record in list(records):
            turns = [{"from": "human", "value": "<image>\nName the colour."}, record["conversations"][1]]
            records.append({**record, "conversations": turns})

    said = run_own(own_data(spoil), steps=2)
    assert said.code == 0
    (answers,) = [p for p in tmp_path.glob("store/nodes/prediction/*/answers.jsonl") if '"full"' in p.read_text()]
    ids = [json.loads(line)["id"] for line in answers.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 2 * HELD_OUT
    assert sum(name.endswith("#2") for name in ids) == HELD_OUT


def test_held_out_records_without_a_last_answer(own_data, refused):
    said = refused(own_data(ends_with_the_user))
    assert f"{HELD_OUT} of {HELD_OUT} samples cannot be asked or scored, tolerated 0.0%: no reference answer" in said


def test_empty_answers_are_counted_and_named(own_data, refused):
    path = own_data(has_empty_answers)
    empty = [f"s{number}" for number in held_out(path) if number % 3 == 0]
    assert 0 < len(empty) < HELD_OUT
    said = refused(path)
    assert f"{len(empty)} of {HELD_OUT} samples" in said
    assert f"({', '.join(empty)})" in said


def test_what_a_benchmark_tolerates_is_left_out_and_listed_beforehand(own_data, omma, tmp_path):
    data = own_data(has_empty_answers)
    arguments = [f"data={data}", "experts=patches@32", "grid=2", "steps=2", "batch=2", "holdout=0.3", "tolerance=0.5"]
    said = omma(
        "run", "ommatidia.recipes.own_data:llava", *arguments, "--store", tmp_path / "s", "--out", tmp_path / "o"
    )
    assert said.code == 0
    log = " ".join(said.err.split())
    assert "are left out: no reference answer" in log
    assert log.index("are left out") < log.index("training: language")


def test_ids_that_say_nothing_join_no_records(tmp_path):
    records = [
        {"id": name, "conversations": [{"from": "human", "value": f"{n}?"}, {"from": "gpt", "value": f"{n}"}]}
        for n, name in enumerate([None, "", "  "] * 20)
    ]
    for record in records[::2]:
        del record["id"]
    path = tmp_path / "text.json"
    path.write_text(json.dumps(records))
    parts = {split: LlavaJSON(path=path, split=split, holdout=0.3).open() for split in ("train", "held_out")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 44, "held_out": 16}
    ids = [part[n].id for part in parts.values() for n in range(len(part))]
    assert sorted(ids, key=int) == [str(n + 1) for n in range(60)]


def test_nothing_held_out(own_data, refused):
    def spoil(folder, records):
        for record in records:
            record["image"] = "0.png"

    assert "no record of 12 falls into split" in refused(own_data(spoil))


def test_a_torn_image_among_the_questions(own_data, refused):
    number = held_out(own_data())[0]
    said = refused(own_data(has_one_torn_image(number)))
    assert f"1 of {HELD_OUT} samples cannot be asked or scored" in said
    assert f"{number}.png: broken or truncated image" in said


def test_every_sample_longer_than_the_context(own_data, refused):
    def spoil(folder, records):
        for record in records:
            record["conversations"][0]["value"] += " word" * 3000

    said = refused(own_data(spoil))
    assert "16 of 16 samples to be drawn cannot be used" in said
    assert "5 of 5 samples cannot be asked or scored" in said
    assert "problems, found before anything was done" in said


def test_a_long_record_counts_only_where_it_is_drawn(own_data, run_own):
    def spoil(folder, records):
        for number in held_out(folder / "mine.json"):
            records[number]["conversations"][0]["value"] = "<image>\nWhat colour is it?"
        train = next(n for n in range(12) if n not in held_out(folder / "mine.json"))
        records[train]["conversations"][0]["value"] += " word" * 3000

    own_data()
    codes: set[int] = set()
    for seed in range(8):
        codes.add(run_own(own_data(spoil), steps=1, batch=1, seed=seed).code)
        if codes == {0, 1}:
            return
    pytest.fail(f"eight seeds ended alike: {codes}")


MACHINE = {
    "a tracker": (("stages.0.engine.log=[tensorboard]",), {}, "needs the package 'tensorboard'"),
    "a package of weights": ((), {"experts": "craft@64"}, "the package 'easyocr_en_models' is not installed"),
    "adapters": (("model.adapters={language: {rank: 2}}",), {}, "needs the package 'peft'"),
}


@pytest.mark.parametrize("name", MACHINE)
def test_a_package_that_is_not_installed(name, own_data, refused, monkeypatch):
    sets, given, words = MACHINE[name]
    find = importlib.util.find_spec
    package = words.split("'")[1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == package else find(n, *a))
    monkeypatch.setitem(__import__("sys").modules, package, None)
    assert words in refused(own_data(), sets=sets, **given)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda", "device 'cuda': "),
        ("cuda:7", "device 'cuda:7': there is no such GPU; valid: cuda:0"),
        ("gpu", "device: expected cpu, cuda or cuda:NUMBER, got 'gpu'"),
        ("meta", "device: expected cpu, cuda or cuda:NUMBER, got 'meta'"),
    ],
)
def test_a_device_that_is_not_there(device, words, own_data, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: ":" in device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(":" in device))
    if ":" in device:
        monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert words in refused(own_data(), sets=(f"device={device}",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "stages.1.train={projector:blocks.99*: 1e-3}",
            "stage 'align': train pattern 'projector:blocks.99*': no parameter of projector matches",
        ),
        ("stages.2.engine={recompute: {projector: full}}", "stage 'tune': engine.recompute: projector has no row"),
    ],
)
def test_what_matches_nothing_inside_a_part(change, words, own_data, refused):
    assert words in refused(own_data(), sets=(change,))


def test_a_disk_without_room(own_data, refused, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**40, 2**40, 2**20))
    said = refused(own_data())
    assert "MiB on this disk, which has 1 MiB free; make room" in said


def test_an_output_folder_that_cannot_be_written(own_data, omma, refused, tmp_path):
    (tmp_path / "out").write_text("not a folder")
    assert f"{tmp_path / 'out'}: cannot write here" in refused(own_data())


def test_all_problems_are_told_at_once(own_data, refused):
    said = refused(own_data(ends_with_the_user), sets=("stages.1.train={projector:nothing: 1e-3}",))
    assert "2 problems, found before anything was done:" in said
    assert "no reference answer" in said
    assert "projector:nothing" in said


def test_an_output_folder_a_device_data_and_a_package_are_told_together(own_data, refused, tmp_path, monkeypatch):
    (tmp_path / "out").write_text("not a folder")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "easyocr_en_models" else find(n, *a))
    lost = "benchmarks.0.source.path=gone.json"
    said = refused(own_data(), sets=("device=cuda:77", lost), experts="craft@64")
    assert "4 problems, found before anything was done:" in said
    for words in ("out: cannot write here", "cuda:77", "gone.json", "'easyocr_en_models' is not installed"):
        assert words in said


def test_plan_tells_problems_and_misspelt_paths(own_data, omma, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # a narrow window would break what a table says into lines
    own = ["plan", "ommatidia.recipes.own_data:llava", "experts=patches@32", "grid=2", "--store", tmp_path / "s"]
    data = own_data(ends_with_the_user)
    good = omma(*own, f"data={own_data()}")
    assert (good.code, good.err) == (0, "")
    said = omma(*own, f"data={own_data(ends_with_the_user)}")
    assert said.code == 1
    assert "no reference answer" in said.error
    assert "answers of patches@32 to held_out" in said.out
    near = omma(*own, f"data={data.with_name('mime.json')}")
    assert near.code == 1
    assert f"mime.json: no such file; did you mean '{data}'?" in near.error
    assert not (tmp_path / "s").exists()


def test_plan_says_what_a_study_assumes_and_refuses_what_a_person_gives(omma, tmp_path):
    study = ["plan", "ommatidia.recipes.eagle:x5_7b", "--store", tmp_path / "s"]
    said = omma(*study)
    assert said.code == 0
    assert "assumed" in said.out
    moved = omma(*study, "--set", "stages.0.data.sources.sft.source.path=elsewhere/own.json")
    assert moved.code == 1
    assert "elsewhere/own.json: no such file, nor elsewhere" in moved.error
