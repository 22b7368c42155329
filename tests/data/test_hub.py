"""Data sets of the library ``datasets`` from disk, in the layouts people have."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import ImagePart
from ommatidia.data import hub
from ommatidia.data.hub import HFDataset


def png(width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, 6)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress bars, and a cache that goes away with the test."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(images: Any = None) -> Any:
    import datasets

    rows = {
        "image": images or [{"bytes": png(5 + k), "path": None} for k in range(4)],
        "question": [f"q{k}?" for k in range(4)],
        "answer": [f"a{k}" for k in range(4)],
    }
    made = datasets.Dataset.from_dict(rows)
    return made if images else made.cast_column("image", datasets.Image())


def test_saved_folder(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "set")
    config = HFDataset(path=tmp_path / "set", group="knowledge")
    source = config.open()
    assert len(source) == 4
    sample = source[2]
    assert sample.messages[0].parts == (ImagePart(0), "q2?")
    assert sample.answer == "a2"
    assert sample.images[0].open().size == (7, 6)
    assert sample.meta["cluster"] == sample.images[0].digest
    assert sample.meta["group"] == "knowledge"
    assert len(HFDataset(path=tmp_path / "set", limit=2).open()) == 2
    assert config.fingerprint() == HFDataset(path=tmp_path / "set", group="knowledge").fingerprint()


def test_parts(tmp_path: Path) -> None:
    import datasets

    datasets.DatasetDict({"train": table(), "val": table().select([1])}).save_to_disk(tmp_path / "set")
    assert len(HFDataset(path=tmp_path / "set", part="val").open()) == 1
    for part in (None, "vall"):
        with pytest.raises(ConfigError, match="several parts"):
            HFDataset(path=tmp_path / "set", part=part).open()


def test_parquet(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "rows.parquet")
    for path in (tmp_path / "rows.parquet", tmp_path):
        assert HFDataset(path=path).open()[3].images[0].open().width == 8


def test_columns_of_other_names_and_lists_of_images(tmp_path: Path) -> None:
    import datasets

    made = datasets.Dataset.from_dict(
        {"pics": [[{"bytes": png(3), "path": None}, {"bytes": png(4), "path": None}]], "q": ["?"]}
    )
    made.cast_column("pics", datasets.List(datasets.Image())).save_to_disk(tmp_path / "set")
    sample = HFDataset(path=tmp_path / "set", image="pics", question="q", answer=None).open()[0]
    assert [picture.open().width for picture in sample.images] == [3, 4]
    assert len(sample.messages) == 1


def test_conversations(tmp_path: Path) -> None:
    import datasets

    turns = [[{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]]
    made = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(9), "path": None}], "conversations": turns, "key": ["k"]}
    )
    made.save_to_disk(tmp_path / "set")
    sample = HFDataset(path=tmp_path / "set", messages="conversations", id="key").open()[0]
    assert sample.id == "k"
    assert sample.messages[0].parts == (ImagePart(0), "\nWhat?")
    assert sample.answer == "That."


def test_openai_parts_filled_with_none(tmp_path: Path) -> None:
    import datasets

    content = [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    made = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(9), "path": None}], "messages": [[{"role": "user", "content": content}]]}
    )
    made.save_to_disk(tmp_path / "set")
    assert HFDataset(path=tmp_path / "set", messages="messages").open()[0].messages[0].parts == (ImagePart(0), "What?")


def test_paths_and_broken_rows(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(5))
    made = table(images=["a.png", "gone.png", None, "a.png"])
    made.to_parquet(tmp_path / "rows.parquet")
    source = HFDataset(path=tmp_path / "rows.parquet").open()
    assert source[0].images[0].open().width == 5
    with pytest.raises(DataError, match=r"sample '1'.*gone\.png: no such image file"):
        source[1]
    assert source[2].images == ()


@pytest.mark.parametrize("kind", ["string", "large", "view", "list", "fixed", "dictionary", "empty bytes"])
def test_images_that_a_table_names_count_whatever_type_names_them(tmp_path: Path, kind: str) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.png").write_bytes(png(5))
    text, listed = pa.array(["a.png"]), pa.array([["a.png"]], pa.list_(pa.string()))
    columns = {
        "string": lambda: text,
        "large": lambda: text.cast(pa.large_string()),
        "view": lambda: text.cast(pa.string_view()),
        "list": lambda: listed,
        "fixed": lambda: listed.cast(pa.list_(pa.string(), 1)),
        "dictionary": text.dictionary_encode,
        "empty bytes": lambda: pa.StructArray.from_arrays([pa.array([b""]), text], ["bytes", "path"]),
    }
    rows = pa.table({"image": columns[kind](), "question": ["What?"], "answer": ["This."]})
    parquet.write_table(rows, tmp_path / "rows.parquet")
    source = HFDataset(path=tmp_path / "rows.parquet")
    before = source.fingerprint()
    assert source.fingerprint() == before
    (tmp_path / "a.png").write_bytes(png(6))
    assert source.fingerprint() != before


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "set")
    with pytest.raises(ConfigError, match="did you mean 'question'"):
        HFDataset(path=tmp_path / "set", question="questions").open()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        HFDataset(path=tmp_path / "gone").open()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no parquet and no Arrow files"):
        HFDataset(path=tmp_path / "empty").open()
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"broken\.parquet"):
        HFDataset(path=tmp_path / "broken.parquet").open()
    table().select([]).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match="no rows"):
        HFDataset(path=tmp_path / "set").open()


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table().save_to_disk(tmp_path / "set")
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest, **more)

    hub.opened.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'ommatidia\[hub\]'"):
        HFDataset(path=tmp_path / "set").open()


def test_marks_in_a_question(tmp_path: Path) -> None:
    import datasets

    questions = ["Is <image> red?", "<video> What?", "<image><image>?"]
    column = [{"bytes": png(9), "path": None}] * 3
    datasets.Dataset.from_dict({"image": column, "question": questions, "answer": ["a"] * 3}).to_parquet(
        tmp_path / "rows.parquet"
    )
    source = HFDataset(path=tmp_path / "rows.parquet").open()
    assert source[0].messages[0].parts == ("Is ", ImagePart(0), " red?")
    for row, kind in ((1, "mark"), (2, "placeholders")):
        with pytest.raises(DataError) as caught:
            source[row]
        assert caught.value.kind == kind


def test_parts_of_a_snapshot_by_the_names_of_its_files(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "hub" / "data").mkdir(parents=True)
    for part, rows in (("train", 6), ("validation", 3), ("test", 4)):
        said = {"question": [f"{part} {k}?" for k in range(rows)], "answer": ["a"] * rows}
        datasets.Dataset.from_dict(said).to_parquet(tmp_path / "hub" / "data" / f"{part}-00000-of-00001.parquet")

    def rows(part: str | None, path: str = "hub") -> int:
        return len(HFDataset(path=tmp_path / path, part=part, image=None).open())

    assert [rows(part) for part in ("train", "validation", "test")] == [6, 3, 4]
    with pytest.raises(ConfigError, match="several parts: test, train, validation; set part"):
        rows(None)
    with pytest.raises(ConfigError, match="unknown part 'trian'; did you mean 'train'"):
        rows("trian")
    one = "hub/data/test-00000-of-00001.parquet"
    assert rows(None, one) == rows("test", one) == 4
    with pytest.raises(ConfigError, match="'train'"):
        rows("train", one)
    train, test = (HFDataset(path=tmp_path / "hub", part=part, image=None) for part in ("train", "test"))
    before = train.fingerprint(), test.fingerprint()
    datasets.Dataset.from_dict({"question": ["new?"], "answer": ["b"]}).to_parquet(tmp_path / one)
    assert train.fingerprint() == before[0]
    assert test.fingerprint() != before[1]
