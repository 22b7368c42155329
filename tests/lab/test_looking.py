"""Looking at one sample as the model sees it, and talking with a saved model."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_toys import recipe, round_robin
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError, RunError
from ommatidia.core.types import IMAGE_TOKEN_ID
from ommatidia.lab.saved.talk import Talk
from ommatidia.lab.show.inspection import inspect_model, inspect_recipe, token_runs
from ommatidia.models.build import build_model
from ommatidia.models.pretrained import save
from ommatidia.models.processor import Processor


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for name, one in (("sees", recipe("coarse", "fine")), ("blind", recipe())):
        found[name] = save(build_model(one.model, seed=0), one.model, folder / name)
    Image.new("RGB", (50, 30), (200, 30, 30)).save(folder / "red.png")
    (folder / "torn.png").write_bytes((folder / "red.png").read_bytes()[:60])
    return found | {"red": folder / "red.png", "torn": folder / "torn.png"}


def test_the_token_row_is_cut_where_its_nature_changes() -> None:
    one = recipe("coarse")
    processor = Processor(one.model)
    example = processor(one.stages[-1].data.open().draw(0, seed=0))
    runs = token_runs(processor, example)
    assert [run.nature for run in runs] == ["text", "visual", "text", "answer"]
    assert [run.start for run in runs] == [0, 1, 5, 5 + len(runs[2].pieces)]
    assert sum(len(run.pieces) for run in runs) == len(example.ids)
    assert runs[1].words == "4 visual tokens"
    assert runs[3].words.endswith("<|end|>")
    assert len(runs[3].pieces) == example.supervised


def test_a_sample_is_drawn_and_told(tmp_path: Path) -> None:
    found = inspect_recipe(round_robin(), None, 2, tmp_path / "deep" / "look.png")
    with Image.open(found.path) as picture:
        assert min(picture.size) > 200
    assert found.data["visual_tokens"] == 4
    assert found.data["supervised"] >= 2
    views = next(rows for title, _, rows in found.tables if title == "views")
    assert views[0][0] in ("coarse", "fine")
    again = inspect_recipe(round_robin(), None, 2, tmp_path / "again.png")
    assert again.data == found.data


def test_every_view_and_its_mark_is_drawn(tmp_path: Path) -> None:
    tiling = {"kind": "fixed_grid", "rows": 1, "columns": 2, "tile": 16, "tags": "one_d", "whole": ["fine"]}
    one = recipe("coarse", "fine")
    model = one.model.to_dict() | {"tiling": tiling, "fusion": {"kind": "channel_concat", "grid": [2, 2]}}
    found = inspect_recipe(recipe("coarse", "fine", model=model), "tune", 0, tmp_path / "look.png")
    with (
        Image.open(found.path) as picture,
        Image.open(inspect_recipe(one, "tune", 0, tmp_path / "one.png").path) as single,
    ):
        assert picture.height > single.height
    assert (found.data["views"], found.data["visual_tokens"]) == (3, 12)
    tiles = next(rows for title, _, rows in found.tables if title == "tiles")
    assert [row[2:] for row in tiles] == [
        ["16x16", "0.00 0.00 1.00 0.50", "<tile_1>"],
        ["16x16", "0.00 0.50 1.00 1.00", "<tile_2>"],
        ["32x32", "0.00 0.00 1.00 1.00", "<tile_global_thumbnail>"],
    ]
    said = "".join(run["text"] for run in found.data["runs"])
    assert said.index("<tile_1>") < said.index("<tile_2>") < said.index("<tile_global_thumbnail>")


def test_a_text_stage_is_drawn_without_pictures(tmp_path: Path) -> None:
    found = inspect_recipe(recipe("coarse"), "language", 0, tmp_path / "look.png")
    assert found.path.is_file()
    assert found.data["visual_tokens"] == 0
    with pytest.raises(ConfigError, match=r"unknown stage 'prealign'; did you mean 'pre-align'\?"):
        inspect_recipe(recipe("coarse"), "prealign", 0, tmp_path / "look.png")
    with pytest.raises(ConfigError, match="cannot be inspected"):
        inspect_recipe(recipe("coarse").model, None, 0, tmp_path / "look.png")


def test_a_picture_is_seen_through_a_saved_model(saved: dict[str, Path], tmp_path: Path) -> None:
    found = inspect_model(saved["sees"], saved["red"], "What colour?", tmp_path / "look.png")
    assert found.path.is_file()
    assert (found.data["visual_tokens"], found.data["supervised"]) == (4, 0)
    with pytest.raises(ConfigError, match="--image"):
        inspect_model(saved["sees"], None, "What?", tmp_path / "look.png")
    with pytest.raises(DataError, match=r"torn\.png"):
        inspect_model(saved["sees"], saved["torn"], "What?", tmp_path / "look.png")


def test_only_our_own_figure_is_replaced(saved: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "look.png"
    for question in ("What colour?", "What shape?"):
        inspect_model(saved["sees"], saved["red"], question, out)
    out.write_bytes(b"a figure of mine")
    with pytest.raises(ConfigError, match=r"look\.png: was changed since it was written"):
        inspect_model(saved["sees"], saved["red"], "What colour?", out)
    assert out.read_bytes() == b"a figure of mine"


def test_a_place_that_cannot_hold_the_picture_is_named(saved: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"look\.png: cannot be written: "):
        inspect_model(saved["sees"], saved["red"], "What?", tmp_path / "file" / "look.png")
    for name, near in (("look.pnng", "did you mean 'png'"), ("look", "unknown kind of image ''")):
        with pytest.raises(ConfigError) as error:
            inspect_model(saved["sees"], saved["red"], "What?", tmp_path / name)
        assert near in str(error.value)


def talk(checkpoint: Path, *images: Path) -> Talk:
    return Talk.open(checkpoint, images, max_new_tokens=4, temperature=0.0, device="cpu")


def test_a_dialogue_keeps_its_turns_and_shows_the_pictures_once(saved: dict[str, Path]) -> None:
    dialogue = talk(saved["sees"], saved["red"], saved["red"])
    first, second = dialogue.ask("What is this?"), dialogue.ask("Sure?")
    assert isinstance(first, str)
    assert [turn.role for turn in dialogue.turns] == ["user", "assistant", "user", "assistant"]
    assert dialogue.turns[3].text == second
    assert sum(not isinstance(part, str) for turn in dialogue.turns for part in turn.parts) == 2
    alone = talk(saved["sees"], saved["red"], saved["red"])
    assert alone.ask("What is this?") == first


def test_a_dialogue_without_pictures(saved: dict[str, Path]) -> None:
    dialogue = talk(saved["blind"])
    assert isinstance(dialogue.ask("Hello"), str)
    assert IMAGE_TOKEN_ID not in dialogue.processor.tokenizer.encode("Hello", special=False)
    assert isinstance(talk(saved["sees"]).ask("Hello"), str)


def test_what_cannot_be_talked_about_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no encoders and cannot see an image"):
        talk(saved["blind"], saved["red"])
    with pytest.raises(DataError, match=r"none\.png"):
        talk(saved["sees"], tmp_path / "none.png")
    with pytest.raises(DataError, match=r"torn\.png"):
        talk(saved["sees"], saved["torn"])
    with pytest.raises(ConfigError, match="expected a folder saved by ommatidia"):
        talk(tmp_path)
