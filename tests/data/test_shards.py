"""Shards: read without unpacking, written so that nothing is lost, and refused with name, key and offset."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import ImagePart, Message, Sample
from ommatidia.data import DrawnCounts, Interleaved, LlavaJSON, Pairs, WebDataset
from ommatidia.data.check import problems
from ommatidia.data.mixture import MixtureConfig, Weighted
from ommatidia.data.shard_writer import write_shards
from ommatidia.data.shards import shard_paths
from ommatidia.data.tar_index import tar_index


def picture(shade: int, form: str = "PNG") -> bytes:
    stored = io.BytesIO()
    Image.new("RGB", (8 + shade, 8), (shade * 20, 0, 0)).save(stored, form)
    return stored.getvalue()


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def line(**record: Any) -> bytes:
    return json.dumps(record).encode()


TALK = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Red."}]
MEMBERS = [
    ("part/000.jpg", picture(1, "JPEG")),
    ("part/000.txt", b" a caption \n"),
    ("001.PNG", picture(2)),
    ("001.json", line(id="one", caption="from the record")),
    ("002.json", line(conversations=TALK, image="elsewhere/7.webp")),
    ("002.webp", picture(3, "WEBP")),
    ("003.0.png", picture(4)),
    ("003.1.png", picture(5)),
    ("003.json", line(texts=["A", None, None, "B"], images=[None, "1.png", "003.0.png", None])),
    ("__meta__.json", b"{}"),
    ("004.json", line(id="text", messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])),
]


def test_what_shards_hold(tmp_path: Path) -> None:
    source = WebDataset(shards=str(tar(tmp_path / "a.tar", MEMBERS))).open()
    samples = [source[k] for k in range(len(source))]
    assert [s.id for s in samples] == ["part/000", "one", "002", "003", "text"]
    assert [s.answer for s in samples] == ["a caption", "from the record", "Red.", "", "Ho"]
    assert [[p.size()[1] for p in s.images] for s in samples] == [[9], [10], [11], [13, 12], []]
    assert samples[3].messages == (Message("document", ("A", ImagePart(0), ImagePart(1), "B")),)
    assert samples[2].messages[0].parts == (ImagePart(0), "\nWhat?")
    assert list(problems("w", WebDataset(shards=str(tmp_path / "a.tar")).inspect())) == []


def test_a_picture_is_named_by_its_ending_or_by_its_whole_name(tmp_path: Path) -> None:
    members = []
    for key, name in (("0", "0.jpg"), ("a/1", "1.0.jpg"), ("2", "2.jpg")):
        ending = "jpg" if key == "2" else "0.jpg"
        record = line(texts=["A", None], images=[None, name])
        members += [(f"{key}.{ending}", picture(1, "JPEG")), (f"{key}.json", record)]
    source = WebDataset(shards=str(tar(tmp_path / "a.tar", members))).open()
    assert [len(source[k].images) for k in range(3)] == [1, 1, 1]


def test_the_index_is_kept_and_made_anew_when_the_shard_changes(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", MEMBERS)
    config = WebDataset(shards=str(path))
    assert len(config.open()) == 5
    kept = tmp_path / "a.tar.omma-index"
    index = tar_index(path)
    assert index.spans(3).keys() == {"0.png", "1.png", "json"}
    before = config.fingerprint()
    tar(path, MEMBERS[:4])
    os.utime(path, ns=(1, 1))
    assert len(config.open()) == 2
    assert config.fingerprint() != before
    data = kept.read_bytes()
    kept.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # damaged: found out, and made again
    os.utime(path, ns=(2, 2))
    assert [config.open()[k].id for k in range(2)] == ["part/000", "one"]


def test_another_shard_of_equal_size_and_time_is_another(tmp_path: Path) -> None:
    path = tar(tmp_path / "s.tar", [("a.json", line(text="one")), ("b.json", line(text="two"))])
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    assert [tar_index(path).key(n) for n in range(2)] == ["a", "b"]
    size = path.stat().st_size
    tar(path, [("c.json", line(text="three")), ("d.json", line(text="four"))])
    os.utime(path, ns=times)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, times[1])
    assert [tar_index(path).key(n) for n in range(2)] == ["c", "d"]


def test_an_index_on_disk_is_read_memory_mapped(tmp_path: Path, monkeypatch: Any) -> None:
    from ommatidia.data import tar_index as module

    path = tar(tmp_path / "a.tar", MEMBERS)
    module.tar_index(path)
    module._known.cache_clear()
    monkeypatch.setattr(module, "_build", lambda path: pytest.fail("the kept index was not used"))
    index = module.tar_index(path)
    assert index.key(3) == "003"
    assert type(index.members).__name__ == "memmap"


def test_an_index_that_cannot_be_kept_is_made_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    config = WebDataset(shards=str(tar(tmp_path / "a.tar", MEMBERS)), index_root=tmp_path / "file" / "x")
    assert len(config.open()) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "file"]


@pytest.mark.parametrize("cut", [1, 700, 1200, 3000])
def test_a_truncated_shard(tmp_path: Path, cut: int) -> None:
    path = tar(tmp_path / "a.tar", MEMBERS)
    with tarfile.open(path) as file:
        end = file.getmembers()[-1].offset_data + 512
    path.write_bytes(path.read_bytes()[: end - cut])
    with pytest.raises(DataError, match=r"a\.tar: truncated .*offset \d+"):
        WebDataset(shards=str(path)).open()
    found = list(problems("w", WebDataset(shards=str(path)).inspect()))
    assert [p.kind for p in found if p.place == ""] == ["truncated shard"]
    assert not (tmp_path / "a.tar.omma-index").exists()


def test_not_a_tar_file(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"a\.tar: truncated or no tar file"):
        WebDataset(shards=str(tmp_path / "a.tar")).open()
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.tar: truncated or no tar file \(empty file\)"):
        WebDataset(shards=str(tmp_path / "a.tar")).open()


def test_keys_that_come_twice(tmp_path: Path) -> None:
    twice = [*MEMBERS[2:4], *MEMBERS[4:6], MEMBERS[2]]
    path = tar(tmp_path / "apart.tar", twice)
    with tarfile.open(path) as file:
        offset = file.getmembers()[-1].offset
    wanted = rf"apart\.tar: key '001' a second time at offset {offset}; members of a sample must stand together"
    with pytest.raises(DataError, match=wanted):
        WebDataset(shards=str(path)).open()
    path = tar(tmp_path / "same.tar", [*MEMBERS[2:4], MEMBERS[3]])
    with pytest.raises(DataError, match=r"same\.tar: key '001' a second time at offset \d+; with the ending 'json'"):
        WebDataset(shards=str(path)).open()


def test_members_that_do_not_fit(tmp_path: Path) -> None:
    broken = [
        ("0.txt", b"alone"),
        ("1.png", picture(1)),
        ("2.json", line(texts=["A", None], images=[None, "9.png"])),
        ("3.json", b"{"),
        ("4.json", line(conversations=TALK)),
        ("5.png", picture(1)[:45]),
        ("5.txt", b"cut"),
    ]
    config = WebDataset(shards=str(tar(tmp_path / "a.tar", broken)))
    offset = tar_index(tmp_path / "a.tar").spans(2)["json"][0]
    with pytest.raises(DataError) as caught:
        config.open()[2]
    assert str(caught.value) == (
        f"{tmp_path}/a.tar, sample 'key 2 at offset {offset}': no member '9.png' beside the record; there are json"
    )
    found = [(p.place.split(",")[1].split()[1], p.kind) for p in problems("w", config.inspect())]
    assert found == [
        ("0", "missing image"),
        ("1", "layout"),
        ("2", "missing image"),
        ("3", "not JSON"),
        ("4", "placeholders"),
        ("5", "broken image"),
    ]


def test_pairs_in_shards(tmp_path: Path) -> None:
    members = [
        ("0.jpg", picture(1, "JPEG")),
        ("0.txt", b"words of the text"),
        ("0.json", line(id=70, width=500, height=300, clip_a=0.4)),
        ("1.png", picture(2)),
        ("1.json", line(id=71, text="words of the row", width=200, height=300, clip_a=0.9)),
        ("2.png", picture(3)),
        ("2.json", line(id=72, text="alike", width=400, height=400, clip_a=0.1)),
        ("3.json", line(id=73, text="no image", width=400, height=400, clip_a=0.9)),
    ]
    path = tar(tmp_path / "a.tar", members)
    config = Pairs(path=path, least_side=250, similarity=("clip_a",), least_similarity=0.3)
    source = config.open()
    assert len(source) == 2
    assert (source[0].id, source[0].answer, source[0].images[0].size()) == ("70", "words of the text", (8, 9))
    with pytest.raises(DataError, match=r"a\.tar, sample 'key 3 at offset \d+': 0 images beside the caption"):
        source[1]
    assert [p.kind for p in problems("p", config.inspect())] == ["missing image"]
    assert Pairs(path=path).open()[1].answer == "words of the row"


def test_patterns(tmp_path: Path) -> None:
    for number in (0, 1, 2, 10):
        tar(tmp_path / f"s-{number:02d}.tar", [(f"{number}.png", picture(1)), (f"{number}.txt", b"x")])
    names = [p.name for p in shard_paths(f"{tmp_path}/s-{{00..02}}.tar")]
    assert names == ["s-00.tar", "s-01.tar", "s-02.tar"]
    assert [p.name for p in shard_paths(f"{tmp_path}/s-*.tar")] == [*names, "s-10.tar"]
    assert [p.name for p in shard_paths(f"{tmp_path}/s-{{10,00,01}}.tar")] == ["s-10.tar", *names[:2]]
    source = WebDataset(shards=f"{tmp_path}/s-*.tar").open()
    assert [source[k].id for k in range(4)] == ["0", "1", "2", "10"]
    with pytest.raises(DataError, match=r"s-03\.tar: no such shard; expected every file of"):
        WebDataset(shards=f"{tmp_path}/s-{{00..03}}.tar").open()
    with pytest.raises(DataError, match=r"x-\*\.tar: no file matches"):
        WebDataset(shards=f"{tmp_path}/x-*.tar").open()
    assert WebDataset(shards=f"{tmp_path}/x-*.tar").absent() == f"{tmp_path}/x-*.tar"


def same(a: Sample, b: Sample) -> bool:
    pictures = [p.digest for p in a.images] == [p.digest for p in b.images]
    return (a.id, a.messages, dict(a.meta)) == (b.id, b.messages, dict(b.meta)) and pictures


def sources(folder: Path) -> dict[str, Any]:
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(picture(number, "JPEG"))
    talk = [
        {"id": f"t{k}", "image": [f"{k % 3}.jpg", "0.jpg"], "conversations": [
            {"from": "human", "value": f"<image>, dann <image>: {k}?"}, {"from": "gpt", "value": "<image> 你好"}]}
        for k in range(5)
    ]  # fmt: skip
    (folder / "talk.json").write_text(json.dumps(talk))
    docs = [{"texts": ["A", None, "B"], "images": [None, f"{k}.jpg", None]} for k in range(3)]
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, docs)))
    return {"talk": LlavaJSON(path=folder / "talk.json"), "docs": Interleaved(path=folder / "docs.jsonl")}


@pytest.mark.parametrize("name", ["talk", "docs"])
def test_written_and_read_again_nothing_is_lost(tmp_path: Path, name: str) -> None:
    config = sources(tmp_path)[name]
    source = config.open()
    paths = list(write_shards(source, tmp_path / "out", per_shard=2, fingerprint=config.fingerprint()))
    assert [p.name for p in paths] == [f"shard-{k:06d}.tar" for k in range(-(-len(source) // 2))]
    again = WebDataset(shards=f"{tmp_path}/out/shard-*.tar").open()
    assert len(again) == len(source)
    assert all(same(source[k], again[k]) for k in range(len(source)))


def test_drawn_pictures_become_png(tmp_path: Path) -> None:
    source = DrawnCounts(pictures=2, per_picture=1, size=32).open()
    (path,) = write_shards(source, tmp_path / "out", per_shard=9, fingerprint="x")
    again = WebDataset(shards=str(path)).open()
    assert [again[k].messages for k in range(2)] == [source[k].messages for k in range(2)]
    assert again[1].images[0].open().tobytes() == source[1].images[0].open().tobytes()


def test_writing_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config = sources(tmp_path)["talk"]
    source, out = config.open(), tmp_path / "out"
    writing = write_shards(source, out, per_shard=2, fingerprint="f")
    first = next(writing)
    writing.close()
    stamp = first.stat().st_mtime_ns
    (out / "shard-000001.part").write_bytes(b"half a shard, left by a kill")
    paths = list(write_shards(source, out, per_shard=2, fingerprint="f"))
    assert first.stat().st_mtime_ns == stamp
    assert sorted(p.name for p in out.iterdir()) == ["SHA256SUMS", *(p.name for p in paths), "shards.json"]
    assert len(WebDataset(shards=f"{out}/*.tar").open()) == 5
    with pytest.raises(ConfigError, match="holds shards of another per_shard"):
        next(write_shards(source, out, per_shard=3, fingerprint="f"))
    with pytest.raises(ConfigError, match="holds shards of another fingerprint"):
        next(write_shards(source, out, per_shard=2, fingerprint="g"))


def test_a_mixture_draws_alike_from_shards(tmp_path: Path) -> None:
    config = sources(tmp_path)["talk"]
    list(write_shards(config.open(), tmp_path / "out", per_shard=2, fingerprint="f"))
    sharded = WebDataset(shards=f"{tmp_path}/out/shard-{{000000..000002}}.tar")
    drawn = [
        [MixtureConfig(sources={"a": Weighted(source=one)}).open().draw(k, seed=3) for k in range(12)]
        for one in (config, sharded)
    ]
    assert all(map(same, *drawn))


def test_numbers_in_names_of_pictures_sort_as_numbers(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image><image><image>?"}, {"from": "gpt", "value": "x"}]
    named = [(f"k.img{number}.png", picture(number)) for number in (1, 10, 2)]
    other = [(f"l.{name}.png", picture(shade)) for name, shade in (("b", 1), ("a", 2), ("c1", 3))]
    members = [*named, ("k.json", line(conversations=turns)), *other, ("l.json", line(conversations=turns))]
    source = WebDataset(shards=str(tar(tmp_path / "a.tar", members))).open()
    assert [image.size()[1] - 8 for image in source[0].images] == [1, 2, 10]
    assert [image.size()[1] - 8 for image in source[1].images] == [1, 2, 3]
