"""Of a hub snapshot one configuration and one part are read, in the order of their numbers; nothing is mixed."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.names import number_order
from ommatidia.data.hub import HFDataset
from ommatidia.data.pairs import Pairs
from ommatidia.data.snapshot import chosen, part_of
from ommatidia.data.webdataset import WebDataset

README = """---
license: mit
configs:
- config_name: english
  default: true
  data_files:
  - split: train
    path: data/en-train-*
  - split: test
    path:
    - data/en-test-*
- config_name: deutsch
  data_files: data/de-*.parquet
---
# A data set
"""


def snapshot(root: Path, *names: str, readme: str | None = None) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    if readme is not None:
        (root / "README.md").write_text(readme, encoding="utf-8")
    return root


def read(root: Path, **choice: str) -> list[str]:
    return [file.relative_to(root).as_posix() for file in chosen(root, **choice)]


def test_configurations_in_folders_are_never_mixed(tmp_path: Path) -> None:
    names = "en/train-00000-of-00001.parquet", "de/train-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"
    root = snapshot(tmp_path, *names, "en/test-00000-of-00001.parquet")
    for choice in ({}, {"part": "train"}):
        with pytest.raises(ConfigError, match="several configurations: de, default, en; set config"):
            chosen(root, **choice)
    assert read(root, config="en", part="train") == [names[0]]
    assert read(root, config="de") == [names[1]]
    assert read(root, config="default", part="train") == [names[2]]
    assert sorted(read(root, config="*", part="train")) == sorted(names)
    with pytest.raises(ConfigError, match="unknown configuration 'ed'; did you mean"):
        chosen(root, config="ed")
    with pytest.raises(ConfigError, match="several parts: test, train"):
        chosen(root, config="en")
    assert [file.name for file in chosen(root / "de")] == ["train-00000-of-00001.parquet"]


def test_configurations_that_the_readme_lists(tmp_path: Path) -> None:
    names = [f"data/{name}-00000-of-00001.parquet" for name in ("en-train", "en-test", "de-train")]
    root = snapshot(tmp_path, *names, readme=README)
    with pytest.raises(ConfigError, match="several configurations: deutsch, english"):
        chosen(root)
    assert read(root, config="english", part="train") == names[:1]
    assert read(root, config="english", part="test") == names[1:2]
    assert read(root, config="deutsch") == names[2:]
    (root / "data" / "forgotten-00000-of-00001.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match="several configurations: default, deutsch, english"):
        chosen(root)


def test_one_configuration_needs_no_choice(tmp_path: Path) -> None:
    readme = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: fit\n    path: a/*\n---\n"
    root = snapshot(tmp_path, "a/part-10.parquet", "a/part-9.parquet", readme=readme)
    assert read(root) == read(root, part="fit") == ["a/part-9.parquet", "a/part-10.parquet"]


@pytest.mark.parametrize(
    "readme",
    ["---\nconfigs: [\n---\n", "---\nconfigs: 3\n---\n", "---\nconfigs: [a, {data_files: 7}]\n---\n", "---\n- a\n---\n",
     "---\nconfigs: [{data_files: [/etc/*, '', '../*', {path: null}, {split: a}]}]\n---\n", "no front matter", ""],
)  # fmt: skip
def test_a_readme_that_says_nothing_leaves_the_folders(tmp_path: Path, readme: str) -> None:
    root = snapshot(tmp_path, "en/0.parquet", "de/0.parquet", readme=readme)
    with pytest.raises(ConfigError, match="several configurations: de, en"):
        chosen(root)
    assert read(root, config="en") == ["en/0.parquet"]


def test_rows_are_those_of_the_configuration(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    for config, rows in (("en", 3), ("de", 5)):
        (tmp_path / "hub" / config).mkdir(parents=True)
        said = {"question": [f"{config} {k}?" for k in range(rows)], "answer": ["a"] * rows, "url": ["x.jpg"] * rows}
        datasets.Dataset.from_dict(said).to_parquet(tmp_path / "hub" / config / "train-00000-of-00001.parquet")
    shared = {"path": tmp_path / "hub"}
    assert len(HFDataset(**shared, config="en", image=None).open()) == 3
    assert len(HFDataset(**shared, config="*", image=None).open()) == 8
    with pytest.raises(ConfigError, match="several configurations: de, en"):
        HFDataset(**shared, image=None).open()
    pairs = {**shared, "caption": "question", "image": "url"}
    assert len(Pairs(**pairs, config="de").open()) == 5
    with pytest.raises(ConfigError, match="several configurations: de, en; set config"):
        Pairs(**pairs).open()
    with pytest.raises(ConfigError, match="several configurations: de, en; set config"):
        Pairs(**pairs).fingerprint()
    prints = {HFDataset(**shared, config=config, image=None).fingerprint() for config in ("en", "de", "*")}
    assert len(prints) == 3


def test_pairs_of_one_part(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    for part, rows in (("train", 3), ("test", 2)):
        said = {"text": [f"{part} {k}" for k in range(rows)], "image": [f"{k}.jpg" for k in range(rows)]}
        datasets.Dataset.from_dict(said).to_parquet(tmp_path / f"{part}-00000-of-00001.parquet")
    assert len(Pairs(path=tmp_path, part="train").open()) == 3
    assert len(Pairs(path=tmp_path, part="test").open()) == 2
    with pytest.raises(ConfigError, match="several parts: test, train; set part"):
        Pairs(path=tmp_path).open()
    with pytest.raises(ConfigError, match="part and config choose among parquet files"):
        Pairs(path=tmp_path / "a.jsonl", part="train")


def test_numbers_in_names_of_files_are_numbers(tmp_path: Path) -> None:
    root = snapshot(tmp_path / "tables", *(f"part{number}.parquet" for number in (10, 9, 1, 100)))
    assert read(root) == [f"part{number}.parquet" for number in (1, 9, 10, 100)]
    for number in (10, 2, 1):
        image, text = snapshot(tmp_path, "a.png") / "a.png", tmp_path / "a.txt"
        Image.new("RGB", (4, 4)).save(image)
        text.write_text(f"shard {number}", encoding="utf-8")
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w") as shard:
            for file in (image, text):
                shard.add(file, f"{number}{file.suffix}")
    source = WebDataset(shards=str(tmp_path / "shard-*.tar")).open()
    assert [source[index].answer for index in range(3)] == ["shard 1", "shard 2", "shard 10"]


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=8))
def test_number_order_is_that_of_the_numbers(numbers: list[int]) -> None:
    assert sorted((f"a{n}b" for n in numbers), key=number_order) == [f"a{n}b" for n in sorted(numbers)]


@given(st.lists(st.text(), max_size=6))
def test_number_order_takes_any_names(names: list[str]) -> None:
    assert sorted(sorted(names, key=number_order)) == sorted(names)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no parquet and no Arrow files"):
        chosen(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        chosen(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("data/train-00000-of-00002-1a2b3c.parquet", "train"), ("data/train2014-00000-of-00001.parquet", "train2014"),
        ("default/validation/0000.parquet", "validation"), ("my-set_test.parquet", "test"),
        ("dev.parquet", "validation"),
        ("data/0000.parquet", None), ("latest/contest.parquet", None), ("test/train.parquet", "train"),
    ],
)  # fmt: skip
def test_names_of_parts(name: str, part: str | None) -> None:
    assert part_of(name) == part
