"""Contract of every registered source: its fingerprint follows the bytes of all that it reads, and no place or time.

A new kind that reads files needs one line in ``MADE`` that makes a small data set of it; one that reads none, nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ommatidia.lab.recipe  # noqa: F401 - registers every source
from ommatidia.core.checksums import CHECKSUMS
from ommatidia.core.errors import DataError
from ommatidia.core.files import settled
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Sample, Written
from ommatidia.data import easy_vqa
from ommatidia.data.synthetic import tables
from ommatidia.data.tokenised import write_tokenised

TURNS = [{"from": "human", "value": "<image>\nWhich colour?"}, {"from": "gpt", "value": "red"}]


def images(folder: Path, count: int = 2) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (8, 8), (90 * number, 0, 0)).save(folder / f"{number}.png")
    return [f"{number}.png" for number in range(count)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def llava(folder: Path) -> SourceConfig:
    names = images(folder / "pics")
    rows = [{"id": name, "image": name, "conversations": TURNS} for name in names]
    path = write(folder / "mine.jsonl", rows)
    return SourceConfig.parse({"kind": "llava_json", "path": path, "image_root": folder / "pics"})


def interleaved(folder: Path, *, obelics: bool) -> SourceConfig:
    names = images(folder)
    info = [{"image_name": name, "matched_text_index": 0, "matched_sim": 0.5} for name in names]
    row = {"texts": ["red", None, None], "images": [None, *names]} if obelics else {"text_list": ["red"]}
    path = write(folder / "docs.jsonl", [row if obelics else row | {"image_info": info}])
    return SourceConfig.parse({"kind": "interleaved", "path": path})


def pairs(folder: Path, *, template: bool = False) -> SourceConfig:
    names = images(folder / "pics")
    rows = [{"id": name[0], "image": name, "text": "red", "width": 8, "height": 8} for name in names]
    data = {"kind": "pairs", "path": write(folder / "list.jsonl", rows), "image_root": folder / "pics", "least_side": 4}
    return SourceConfig.parse(data | ({"image": "{id}.png"} if template else {}))


def parquet(folder: Path, columns: dict[str, list[Any]]) -> Path:
    import pyarrow as pa
    from pyarrow import parquet as files

    folder.mkdir(parents=True, exist_ok=True)
    files.write_table(pa.table(columns), folder / "train.parquet")
    return folder / "train.parquet"


def pairs_table(folder: Path, *, template: bool = False) -> SourceConfig:
    names = images(folder)
    path = parquet(folder, {"id": [name[0] for name in names], "image": names, "text": ["red"] * len(names)})
    return SourceConfig.parse({"kind": "pairs", "path": path, **({"image": "{id}.png"} if template else {})})


def hub(folder: Path, *, talk: bool = False, stored: bool = False) -> SourceConfig:
    names = images(folder)
    columns: dict[str, list[Any]] = {"question": ["Which?"] * 2, "answer": ["red"] * 2}
    columns["image"] = [{"bytes": None, "path": name} for name in names]
    if stored:
        columns["image"][0] = {"bytes": (folder / names[0]).read_bytes(), "path": "somewhere.png"}
        (folder / names[0]).unlink()
    if talk:
        parts = [[{"type": "image", "path": name}, {"type": "text", "path": None, "text": "red"}] for name in names]
        turns = [[{"role": "user", "content": part}] for part in parts]
        columns = {"messages": turns}
    data = {"kind": "hf_dataset", "path": parquet(folder, columns)}
    return SourceConfig.parse(data | ({"messages": "messages", "image": None} if talk else {}))


def webdataset(folder: Path) -> SourceConfig:
    name = images(folder / "loose", 1)[0]
    (folder / "loose" / "0.txt").write_text("red")
    with tarfile.open(folder / "shard-0.tar", "w") as tar:
        for one in (name, "0.txt"):
            tar.add(folder / "loose" / one, one)
    shutil.rmtree(folder / "loose")
    return SourceConfig.parse({"kind": "webdataset", "shards": str(folder / "shard-*.tar")})


def expert_text(folder: Path) -> SourceConfig:
    inner = llava(folder)
    records = write(folder / "found.jsonl", [{"image": f"pics/{n}.png", "caption": "red"} for n in range(2)])
    data = {"kind": "expert_text", "source": inner.to_dict(), "records": records, "wording": {"experts": ["caption"]}}
    return SourceConfig.parse(data)


def tokenised(folder: Path) -> SourceConfig:
    def tokens(sample: Sample) -> Written:
        return Written({}, [1, 2], [True, True], [False, False], [], [], (), [], (), (), ())

    for _ in write_tokenised(llava(folder), tokens, {"chat": "red"}, folder / "tokens"):
        pass
    return SourceConfig.parse({"kind": "tokenised", "path": folder / "tokens"})


def vqa(folder: Path) -> SourceConfig:
    images(folder / "train" / "images")
    rows = [["what color is the shape?", "red", 0], ["what color is the shape?", "red", 1]]
    (folder / "train" / "questions.json").write_text(json.dumps(rows))
    return SourceConfig.parse({"kind": "easy_vqa"})


def charts(folder: Path, **fields: Any) -> SourceConfig:
    for name in tables.FILES:
        shutil.copyfile(INSTALLED / name, folder / name)
    return SourceConfig.parse(fields)


INSTALLED = tables.data_folder()
MADE: dict[str, Callable[[Path], SourceConfig]] = {
    "llava_json": llava,
    "interleaved": lambda folder: interleaved(folder, obelics=False),
    "interleaved of pages": lambda folder: interleaved(folder, obelics=True),
    "pairs": pairs,
    "pairs by a template": lambda folder: pairs(folder, template=True),
    "pairs of a table": pairs_table,
    "pairs of a table by a template": lambda folder: pairs_table(folder, template=True),
    "hf_dataset": hub,
    "hf_dataset of talk": lambda folder: hub(folder, talk=True),
    "hf_dataset with bytes": lambda folder: hub(folder, stored=True),
    "webdataset": webdataset,
    "expert_text": expert_text,
    "tokenised": tokenised,
    "easy_vqa": vqa,
    "drawn_charts": lambda folder: charts(folder, kind="drawn_charts"),
    "described_scenes": lambda folder: charts(folder, kind="described_scenes"),
    "scene_captions": lambda folder: charts(folder, kind="scene_captions", scenes="charts"),
}
KINDS = sorted(kind for kind, one in SourceConfig.kinds().items() if one.__module__.startswith("ommatidia."))
FILELESS = [kind for kind in KINDS if kind not in MADE]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where data are made; data of installed packages are looked for here as well."""
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setenv("OMMATIDIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(easy_vqa, "data_folder", lambda: made)
    monkeypatch.setattr(tables, "data_folder", lambda: made)
    return made


def print_of(config: SourceConfig) -> str:
    """The fingerprint; a change that makes the whole source unreadable shows as well."""
    try:
        return config.fingerprint()
    except DataError:
        return "refused"


def spoil(path: Path) -> None:
    """One byte is another; time and size stay."""
    times, data = path.stat(), bytearray(path.read_bytes())
    place = data.find(b"red")
    data[place + 1 if place >= 0 else len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("name", MADE)
def test_every_byte_that_is_read_counts(name: str, folder: Path) -> None:
    config = MADE[name](folder)
    (folder / "beside.png").write_bytes(b"nobody names it")
    (folder / "README.md").write_text("nor this")
    before = config.fingerprint()
    read = [path for path in sorted(folder.rglob("*")) if path.is_file() and "omma-index" not in path.name]
    assert len(read) >= 3
    for path in read:
        data = path.read_bytes()
        spoil(path)
        assert (print_of(config) == before) == (path.name in ("beside.png", "README.md", CHECKSUMS)), path.name
        path.write_bytes(data)
        os.utime(path)
        assert config.fingerprint() == before  # touched and written again, with the bytes it had


@pytest.mark.parametrize("name", MADE)
def test_an_image_that_comes_later_counts(name: str, folder: Path) -> None:
    config = MADE[name](folder)
    before = config.fingerprint()
    for path in sorted(folder.rglob("*.png")):
        data = path.read_bytes()
        path.unlink()
        assert print_of(config) != before
        path.write_bytes(data)
        assert config.fingerprint() == before


@pytest.mark.parametrize("name", MADE)
def test_data_moved_as_a_whole_are_the_same(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = MADE[name](folder)
    before = config.fingerprint()
    other = folder.with_name("elsewhere")
    shutil.copytree(folder, other)
    monkeypatch.setattr(easy_vqa, "data_folder", lambda: other)
    monkeypatch.setattr(tables, "data_folder", lambda: other)
    moved = SourceConfig.parse(json.loads(config.to_json().replace(str(folder), str(other))))
    assert moved.fingerprint() == before
    for path in other.rglob("*.png"):  # two projects with the same names
        spoil(path)
    if list(other.rglob("*.png")) and name != "tokenised":  # whose facts name the first folder
        assert moved.fingerprint() != before


@pytest.mark.parametrize("kind", FILELESS)
def test_one_that_reads_no_file_is_known_by_its_value(kind: str) -> None:
    config = SourceConfig.parse({"kind": kind})
    assert config.fingerprint() == SourceConfig.parse(config.to_dict()).fingerprint()
    assert all(size is None for _, size, _ in config.contents())


def test_a_kind_that_does_not_say_is_read_through(tmp_path: Path) -> None:
    class Silent(SourceConfig):
        path: Path

        def open(self) -> Any:
            return SourceConfig.parse({"kind": "llava_json", "path": self.path, "image_root": self.path.parent}).open()

    names = images(tmp_path)
    write(tmp_path / "a.jsonl", [{"id": name, "image": name, "conversations": TURNS} for name in names])
    config = Silent(path=tmp_path / "a.jsonl")
    before = config.fingerprint()
    assert before == config.fingerprint()
    spoil(tmp_path / "1.png")
    changed = config.fingerprint()
    (tmp_path / "1.png").unlink()
    assert len({before, changed, config.fingerprint()}) == 3


def test_within_one_look_nothing_is_looked_at_again(folder: Path) -> None:
    config = llava(folder)
    with settled():
        before = config.fingerprint()
        spoil(folder / "pics" / "0.png")
        assert SourceConfig.parse(config.to_dict()).fingerprint() == before
    assert config.fingerprint() != before


def test_words_and_images_that_stand_apart_are_other_data(folder: Path) -> None:
    config = expert_text(folder)
    apart = folder.with_name("apart")
    apart.mkdir()
    shutil.copyfile(folder / "found.jsonl", apart / "found.jsonl")
    moved = config.model_copy(update={"records": apart / "found.jsonl"})
    assert moved.fingerprint() != config.fingerprint()  # its names now mean other files
