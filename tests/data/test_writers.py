"""Writers replace only what they wrote: whatever else is in their place is named, and stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.core.checksums import CHECKSUMS, Checksums
from ommatidia.core.errors import ConfigError, OmmatidiaError, RunError
from ommatidia.core.file_lock import only_writer
from ommatidia.core.owned_file import check_file, put_file
from ommatidia.core.types import Sample, Written
from ommatidia.data.curation import curate as module
from ommatidia.data.curation import output
from ommatidia.data.curation.curate import Curation, curate
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.shard_writer import write_shards
from ommatidia.data.tokenised import write_tokenised
from ommatidia.data.webdataset import WebDataset


def talk(folder: Path, count: int = 5) -> LlavaJSON:
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    turns = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "!"}]
    records = [{"id": f"r{n}", "image": "red.png", "conversations": turns, "score": n} for n in range(count)]
    (folder / "talk.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return LlavaJSON(path=folder / "talk.jsonl")


def shard(config: LlavaJSON, out: Path) -> Iterator[Any]:
    return write_shards(config.open(), out, per_shard=2, fingerprint=config.fingerprint(), again=config.fingerprint)


def pack(config: LlavaJSON, out: Path) -> Iterator[Any]:
    def write(sample: Sample) -> Written:
        return Written({}, [1, 2], [True, True], [False, False], [], [], (), [], (), (), ())

    return write_tokenised(config, write, {}, out, part=2)


WRITERS = {"shard": (shard, "shard-000001.tar"), "pack": (pack, "part-00001.safetensors")}
Writer = Callable[[LlavaJSON, Path], Iterator[Any]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def cut(out: Path, name: str) -> None:
    os.truncate(out / name, (out / name).stat().st_size - 512)


def edit(out: Path, name: str) -> None:
    data = bytearray((out / name).read_bytes())
    data[-600 if len(data) > 600 else -1] ^= 1
    (out / name).write_bytes(data)


def beyond(out: Path, name: str) -> None:
    (out / name.replace("1", "7")).write_bytes(b"of another run")


def foreign(out: Path, name: str) -> None:
    lines = (out / CHECKSUMS).read_text().splitlines(keepends=True)
    (out / CHECKSUMS).write_text("".join(line for line in lines if name not in line))
    (out / name).write_bytes(b"somebody's")


@pytest.mark.parametrize("harm", [cut, edit, beyond, foreign])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_part_that_is_not_as_it_was_written_is_named_and_stays(
    writer: str, harm: Callable[[Path, str], None], tmp_path: Path
) -> None:
    (write, name), config, out = WRITERS[writer], talk(tmp_path), tmp_path / "out"
    list(write(config, out))
    subprocess.run(["sha256sum", "--check", "--quiet", CHECKSUMS], cwd=out, check=True)
    harm(out, name)
    before = contents(out)
    named = name.replace("1", "7") if harm is beyond else name
    with pytest.raises(ConfigError, match=rf"{named}: (was changed or cut|a file that we did not write).*Move it away"):
        list(write(config, out))
    assert contents(out) == before
    (out / named).unlink()
    list(write(config, out))  # as the message says
    assert len([path for path in out.iterdir() if path.suffix in (".tar", ".safetensors")]) == 3


@pytest.mark.parametrize("writer", WRITERS)
def test_a_second_writer_is_refused(writer: str, tmp_path: Path) -> None:
    (write, _), config, out = WRITERS[writer], talk(tmp_path), tmp_path / "out"
    first = write(config, out)
    next(first)
    with pytest.raises(RunError, match="out: another process is writing it"):
        next(write(config, out))
    assert len(list(first)) == 2


@pytest.mark.parametrize("writer", WRITERS)
def test_an_image_that_changes_meanwhile_is_told(writer: str, tmp_path: Path) -> None:
    (write, _), config, out = WRITERS[writer], talk(tmp_path), tmp_path / "out"
    writing = write(config, out)
    next(writing)
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "red.png")
    with pytest.raises(RunError, match=r"changed while its (shards|tokens) were written"):
        list(writing)
    with pytest.raises(ConfigError, match="of another fingerprint"):
        list(write(config, out))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_kill_at_any_place_costs_one_part(writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (write, name), config, out = WRITERS[writer], talk(tmp_path), tmp_path / "out"
    list(write(config, tmp_path / "whole"))
    replace = os.replace

    def killed(*places: Any) -> None:
        if str(places[1]).endswith(name):  # listed, and not there yet
            raise KeyboardInterrupt
        replace(*places)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        list(write(config, out))
    monkeypatch.undo()
    with (out / CHECKSUMS).open("a") as file:  # and the list cut off
        file.write("0123")
    list(write(config, out))
    whole, again = contents(tmp_path / "whole"), contents(out)
    assert {k: v for k, v in again.items() if k != CHECKSUMS} == {k: v for k, v in whole.items() if k != CHECKSUMS}
    Checksums(out).check("*.tar", [path.name for path in out.glob("*.tar")])


def test_shards_keep_every_field(tmp_path: Path) -> None:
    config = talk(tmp_path)
    list(shard(config, tmp_path / "out"))
    again = WebDataset(shards=f"{tmp_path}/out/shard-*.tar").open()
    assert [again[n].fields for n in range(5)] == [{"score": n} for n in range(5)]


def test_a_page_is_replaced_only_as_we_left_it(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.html"
    put_file(page, b"first")
    put_file(page, b"second")
    assert page.read_bytes() == b"second"
    page.write_bytes(b"edited")
    with pytest.raises(ConfigError, match=r"page\.html: was changed since it was written; nothing is replaced"):
        put_file(page, b"third")
    assert page.read_bytes() == b"edited"
    (tmp_path / "foreign").write_bytes(b"theirs")
    with pytest.raises(ConfigError, match="foreign: a file that we did not write"):
        put_file(tmp_path / "foreign", b"ours")
    with only_writer(tmp_path / "held"), pytest.raises(RunError, match="another process"):
        put_file(tmp_path / "held", b"")
    page.unlink()
    put_file(page, b"fourth")
    with pytest.raises(ConfigError, match="deep: no file"):
        check_file(page.parent)


def test_a_kill_between_two_renamings_leaves_a_page_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, replace = tmp_path / "page.html", os.replace
    put_file(page, b"first")

    def killed(*places: Any) -> None:
        if places[1] == page:
            raise KeyboardInterrupt
        replace(*places)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        put_file(page, b"second")
    monkeypatch.undo()
    assert page.read_bytes() == b"first"
    put_file(page, b"third")
    assert page.read_bytes() == b"third"


def plan(config: LlavaJSON, **fields: Any) -> Curation:
    source = {"path": str(config.path)} if "source" not in fields else fields
    return Curation.parse({"sources": {"s": source}, "operations": ["length"]})


def test_an_output_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time is the output gone; after a kill between the facts and the file the same command goes on."""
    config, out, replace = talk(tmp_path), tmp_path / "o" / "out.jsonl", os.replace
    curate(plan(config), out)
    first = out.read_bytes()
    talk(tmp_path, 3)

    def killed(*places: Any) -> None:
        if places[1] == out:
            assert out.read_bytes() == first
            raise KeyboardInterrupt
        replace(*places)

    monkeypatch.setattr(output.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        curate(plan(config), out)
    monkeypatch.undo()
    assert out.read_bytes() == first
    curate(plan(config), out)
    assert out.read_bytes() != first
    assert output.read_output(out) is not None


def test_an_edited_output_and_an_edited_image_of_it_are_named(tmp_path: Path) -> None:
    config, out = talk(tmp_path), tmp_path / "o" / "out.jsonl"
    list(shard(config, tmp_path / "tars"))
    value = plan(config, source={"kind": "webdataset", "shards": f"{tmp_path}/tars/shard-*.tar"})
    curate(value, out)
    record = json.loads(out.read_text().splitlines()[0])
    image = out.parent / record["image"]
    assert image.parent.parent.name == "out.jsonl.images"
    assert len(list(image.parent.parent.rglob("*.png"))) == 1  # one image, however many ask about it
    curate(value, out)
    content = image.read_bytes()
    image.write_bytes(content + b"edited")
    with pytest.raises(ConfigError, match=r"png: an image of out\.jsonl that was changed since"):
        curate(value, out)
    image.unlink()
    with pytest.raises(ConfigError, match=r"png: an image of out\.jsonl that is missing"):
        curate(value, out)
    image.write_bytes(content)
    (out.parent / "out.jsonl.images" / "cat.png").write_bytes(b"theirs")
    out.unlink()
    with pytest.raises(ConfigError, match=r"images: holds 'cat\.png', which we did not write"):
        curate(value, out)
    (out.parent / "out.jsonl.images" / "cat.png").unlink()
    curate(value, out)
    out.write_text("mine\n")
    for refused in (value, plan(config)):
        with pytest.raises(OmmatidiaError, match=r"out\.jsonl: was changed since it was written"):
            curate(refused, out)
    assert out.read_text() == "mine\n"
    assert module.ImageStore(out).put(LlavaJSON(path=tmp_path / "talk.jsonl").open()[0].images[0]) == record["image"]
