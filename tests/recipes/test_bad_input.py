"""What people hand in by mistake is refused with one clear line that says where and what was expected; work is kept."""

from __future__ import annotations

import json
import re
import resource
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ommatidia.lab.nodes.store import Store

DONE = re.compile(r"(\d+) nodes done in \d+ s, (\d+) reused")
FULL = 1 << 20
"""Bytes a file may grow to where a disk is said to be full: less than the language model's weights."""


def counts(said) -> tuple[int, int]:
    """Nodes done and nodes reused, as a finished run says."""
    done, reused = DONE.search(said.out).groups()
    return int(done), int(reused)


WRONG_VALUES = {
    "unknown expert": ({"experts": "efficientnet_lite1@128"}, (), "did you mean 'efficientnet_lite2'?"),
    "unknown size": ({"experts": "patches@large"}, (), "expected NAME@SIZE"),
    "expert named twice": ({"experts": "patches@32,patches@32"}, (), "'patches@32' is named twice"),
    "unknown language": ({"language": "smollm3"}, (), "'scratch' or 'smollm2', got 'smollm3'"),
    "unknown scorer": ({"scorer": "exct"}, (), "did you mean 'exact'?"),
    "unknown argument": ({"stepz": 3}, (), "did you mean 'steps'?"),
    "argument of a wrong type": ({"steps": "abc"}, (), "steps: Input should be a valid integer"),
    "no steps": ({"steps": 0}, (), "steps: Input should be greater than or equal to 1, got 0"),
    "all held out": ({"holdout": 2}, (), "holdout: Input should be less than 1, got 2"),
    "wrong type": ({}, ("stages.1.steps=many",), "stages.1.steps: Input should be a valid integer"),
    "unknown field": ({}, ("stages.1.stepz=2",), "did you mean 'steps'?"),
    "unknown part": ({}, ("stages.1.train={projectr: 1e-3}",), "did you mean 'projector'?"),
    "batch that cannot be split": ({}, ("stages.1.micro_batch=3",), "micro_batch 3 does not divide batch 2"),
    "grid that does not divide": (
        {},
        ("model.fusion={kind: none, grid: [3, 3], resample: unshuffle}",),
        "encoder 'patches@32': unshuffle: 2x2 is no whole multiple of 3x3",
    ),
    "grids that do not meet": (
        {"experts": "patches@32,patches@64"},
        ("model.fusion={kind: channel_concat}",),
        "grid 2x2 of 'patches@32' and 4x4 of 'patches@64' cannot be joined without resampling",
    ),
    "no room for words": ({"experts": "patches@512", "grid": 32}, (), "1024 visual tokens a view leave no room"),
}


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_a_wrong_value_is_refused_by_its_path(name, own_data, run_own, tmp_path):
    given, sets, words = WRONG_VALUES[name]
    said = run_own(own_data(), sets=sets, **given)
    assert said.code == 1
    assert words in said.error
    assert not list(tmp_path.glob("store/nodes/*/*")), "nothing may run before the recipe is right"


def missing(folder, records):
    (folder / "3.png").unlink()


def truncated(folder, records):
    path = folder / "3.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    records[3]["image"] = path.name


def one_pixel(folder, records):
    Image.new("RGB", (1, 1)).save(folder / "3.png")


def cmyk(folder, records):
    Image.new("CMYK", (30, 30)).save(folder / "3.jpg")
    records[3]["image"] = "3.jpg"


def animated(folder, records):
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "3.gif", save_all=True, append_images=frames[1:])
    records[3]["image"] = "3.gif"


def empty_file(folder, records):
    (folder / "3.png").write_bytes(b"")


def two_places(folder, records):
    records[3]["conversations"][0]["value"] = "<image><image> What colour is it?"


def no_image(folder, records):
    del records[3]["image"]


def too_long(folder, records):
    records[3]["conversations"][0]["value"] += " word" * 3000


def no_dialogue(folder, records):
    del records[3]["conversations"]


BAD_RECORDS = {
    missing: "3.png: no such image file",
    truncated: "3.jpg: broken or truncated image",
    one_pixel: "3.png: 1 x 1 pixels; expected at least 2 x 2",
    cmyk: "3.jpg: CMYK colours",
    animated: "3.gif: animated or multi-page, 2 frames; expected a single image",
    empty_file: "3.png: an empty file; expected JPEG, PNG",
    two_places: "2 <image> placeholder(s) in the text but 1 image(s) in the record",
    no_image: "1 <image> placeholder(s) in the text but 0 image(s) in the record",
    too_long: "tokens, but the context of the language model holds 1024",
    no_dialogue: "neither 'conversations' nor 'messages'",
}


@pytest.mark.parametrize("spoil", BAD_RECORDS, ids=lambda spoil: spoil.__name__)
def test_a_bad_record_is_refused_by_name(spoil, own_data, run_own):
    said = run_own(own_data(spoil))
    assert said.code == (3 if spoil is truncated else 1)  # torn pixels show only when they are decoded
    assert BAD_RECORDS[spoil] in said.error
    assert "s3" in said.error


@pytest.mark.parametrize(
    "spoil",
    [missing, *(pytest.param(spoil, marks=pytest.mark.slow) for spoil in (truncated, too_long))],
    ids=lambda spoil: spoil.__name__,
)
def test_a_tolerated_record_is_counted_and_named(spoil, own_data, run_own, omma, tmp_path):
    said = run_own(own_data(spoil), tolerance=0.2)
    assert said.code == 0
    assert "1 unusable record" in said.err
    assert BAD_RECORDS[spoil] in said.err
    assert omma("report", "--store", tmp_path / "store", "--out", tmp_path / "page").code == 0
    warnings = json.loads((tmp_path / "page" / "report.json").read_text())["warnings"]
    assert any("1 sample was skipped; the first: " in line and BAD_RECORDS[spoil] in line for line in warnings)


def test_more_bad_records_than_tolerated_stop_the_run(own_data, run_own):
    def spoil(folder, records):
        for number in (2, 3, 4, 5):
            (folder / f"{number}.png").unlink()

    said = run_own(own_data(spoil), tolerance=0.01, steps=12)
    assert said.code == 1
    assert "more than the tolerated 1.00%" in said.error


def test_data_without_answers_is_refused(own_data, run_own):
    def spoil(folder, records):
        for record in records:
            del record["conversations"][1]

    said = run_own(own_data(spoil))
    assert said.code == 1
    assert "this data teaches nothing: no token of the first batch is supervised" in said.error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no records; expected a JSON list or one record a line"),
        ("[]", "no records; expected a JSON list or one record a line"),
        ('[{"id": 1', "line 1: not valid JSON"),
        ("hello", "not valid JSON"),
        ('["hello"]', "is str; expected an object"),
    ],
)
def test_a_file_that_holds_no_records_is_refused(text, words, tmp_path, run_own):
    path = tmp_path / "mine.json"
    path.write_text(text)
    said = run_own(path)
    assert said.code == 1
    assert words in said.error
    assert str(path) in said.error


def test_a_missing_file_is_refused(tmp_path, run_own):
    assert "no such file" in run_own(tmp_path / "nothing.json").error


def test_a_store_that_cannot_be_written_is_refused(own_data, run_own, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for store in (tmp_path / "file", "/proc/store"):
        said = run_own(own_data(), store=store)
        assert said.code == 1
        assert f"{store}: " in said.error
        assert "a store needs a writable disk" in said.error


def test_a_store_in_use_is_refused(own_data, run_own, tmp_path):
    with Store(tmp_path / "store").writing():
        said = run_own(own_data())
    assert said.code == 1
    assert "is writing this store; wait for it, stop it, or use another --store" in said.error
    assert run_own(own_data()).code == 0


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def test_a_damaged_entry_is_made_again(own_data, run_own, tmp_path):
    data = own_data()
    first = run_own(data)
    total, _ = counts(first)
    for kind in ("training", "features", "prediction", "gallery", "checkpoint"):
        node = min((tmp_path / "store" / "nodes" / kind).iterdir())
        flip(max((p for p in node.rglob("*") if p.is_file() and p.name != "node.json"), key=lambda p: p.stat().st_size))
        again = run_own(data)
        assert again.code == 0
        assert "does not match its checksum; it will be made again" in again.err
        assert counts(again) == (1, total - 1), kind
        assert again.out.splitlines()[:4] == first.out.splitlines()[:4]
    (min((tmp_path / "store" / "nodes" / "training").iterdir()) / "node.json").write_text("{")
    assert "node.json is damaged; it will be made again" in run_own(data).err


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_keeps_what_was_done(own_data, run_own):
    data = own_data()
    total, _ = counts(run_own(data))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, hard))
    try:
        said = run_own(data, seed=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said.code == 1
    assert "cannot write the checkpoint" in said.error
    assert counts(run_own(data)) == (0, total)
    done, reused = counts(run_own(data, seed=1))
    assert reused > 0
    assert done + reused == total


@pytest.mark.slow
def test_a_model_that_cannot_be_written_is_kept_in_the_store(own_data, omma, run_own, tmp_path):
    data = own_data()
    total, _ = counts(run_own(data))
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("not a folder")
    said = run_own(data)
    assert said.code == 1
    assert f"{tmp_path / 'out'}" in said.error
    (tmp_path / "out").unlink()
    assert counts(run_own(data)) == (0, total)


def test_commands_on_a_model_name_what_is_wrong(own_data, omma, run_own, tmp_path):
    data = own_data()
    run_own(data)
    model = tmp_path / "out" / "model"
    refusals = {
        ("chat", tmp_path / "nowhere", "hi"): "no config.json; expected a folder saved by ommatidia",
        ("chat", model, "--image", tmp_path / "none.png", "hi"): "none.png: no such file",
        ("chat", model, "--image", data, "hi"): "mine.json: not an image; expected JPEG",
        ("eval", model, "--benchmarks", "wrds"): "did you mean 'words'?",
        ("eval", model, "--benchmarks", "words", "--limit", 1, "--out", "/proc/eval"): "/proc/eval",
        ("report", "minee", "--store", tmp_path / "store"): "unknown search 'minee'",
        ("report", "--store", tmp_path / "empty"): "no search or run has been made in this store",
        ("run", "ommatidia.recipes.own_data:lava"): "did you mean 'llava'?",
        ("run", "ommatidia.recipes.own_dat:llava"): "did you mean 'ommatidia.recipes.own_data'?",
        ("run", "ommatidia.recipes.own_data:llava"): "needs data=...",
        ("run", tmp_path / "none.yaml"): "none.yaml",
        ("search", "ommatidia.recipes.own_data:llava", f"data={data}"): "use omma run",
    }
    for arguments, words in refusals.items():
        said = omma(*arguments)
        assert said.code == 1, arguments
        assert words in said.error
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "model.safetensors: 5000 bytes" in omma("chat", model, "hi").error
