"""Files are hashed whole, remembered by their state, and never trusted when they were written just now."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ommatidia.core import files
from ommatidia.core.console import Console, use
from ommatidia.core.errors import DataError
from ommatidia.core.file_memory import FileMemory, Row


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache folder of its own, and nothing remembered in the process."""
    monkeypatch.setenv("OMMATIDIA_CACHE", str(tmp_path / "cache"))
    forget()
    yield
    forget()


def forget() -> None:
    files._held.clear()
    files._memory.cache_clear()


def made(folder: Path, count: int) -> list[str]:
    """Small files of different bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(b"%d" % number)
    return [str(folder / f"{number}.bin") for number in range(count)]


def test_a_file_changed_in_the_middle_at_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    data = bytearray(os.urandom(3 * 2**20))
    path.write_bytes(data)
    os.utime(path, ns=(10**18, 10**18))
    before = files.file_digest(path)
    assert before == hashlib.sha256(data).hexdigest()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(10**18, 10**18))
    assert files.file_digest(path) == hashlib.sha256(data).hexdigest() != before
    (found,) = files.digest_files([str(path)])
    assert found == (len(data), hashlib.sha256(data).hexdigest())


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    (path,) = made(tmp_path / "data", 1)
    files.file_digest(path)
    files.digest_files([path])
    assert not files._held
    assert not files.memory().find(os.path.dirname(path), ["0.bin"])


def test_a_second_look_opens_nothing_and_asks_for_each_state_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RACY_NS", 0)
    paths = made(tmp_path / "a", 1200) + made(tmp_path / "b", 800)
    first = files.digest_files(paths)
    assert [found.digest for found in first if found] == [
        hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in paths
    ]
    forget()  # as in another command
    opened, asked = list[str](), list[object]()
    monkeypatch.setattr(files, "_read", opened.append)
    stat = os.stat
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", lambda path, **how: (asked.append(path), stat(path, **how))[1])
        again = files.digest_files(paths)
        once = [path for path in asked if path in set(paths)]
        from_process = files.digest_files(paths)
    assert again == from_process == first
    assert not opened
    assert once == paths
    assert len([path for path in asked if path in set(paths)]) == 2 * len(paths)
    assert files.memory().statements <= 8  # a folder, and a statement for some hundred names


def test_what_is_no_file_is_none_and_is_seen_when_it_comes(tmp_path: Path) -> None:
    paths = [str(tmp_path / "no.bin"), str(tmp_path), str(tmp_path / ("x" * 5000)), "a\0b"]
    assert files.digest_files(paths) == [None] * 4
    for path in paths[:3]:
        with pytest.raises(DataError, match="expected a file that can be read"):
            files.file_digest(path)
    made(tmp_path, 1)
    (tmp_path / "0.bin").rename(tmp_path / "no.bin")
    assert files.digest_files(paths)[0] == (1, hashlib.sha256(b"0").hexdigest())


@pytest.mark.parametrize("harm", ["garbage", "no folder"])
def test_a_memory_that_cannot_be_used_costs_one_line(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "RACY_NS", 0)
    if harm == "garbage":
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "files.sqlite").write_bytes(b"no database" * 1000)
    else:
        (tmp_path / "cache").write_text("a file where a folder should be")
    paths = made(tmp_path / "data", 70)
    with use(Console()):
        found = files.digest_files(paths)
        assert files.derived("key", lambda: [1]) == [1]
        assert files.digest_files(paths) == found
    assert [one.digest for one in found if one] == [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in paths]
    assert capsys.readouterr().err.count("cannot be used") == 1


def test_a_kill_loses_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RACY_NS", 0)
    monkeypatch.setattr(files, "_COMMIT_FILES", 50)
    monkeypatch.setattr(files, "_BUNDLE", 10)
    paths, read, keep, calls = made(tmp_path / "data", 400), files._read, FileMemory.keep, list[int]()

    def killed(self: FileMemory, rows: Iterable[Row]) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        keep(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(FileMemory, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            files.digest_files(paths)
    forget()
    opened = list[str]()
    monkeypatch.setattr(files, "_read", lambda path: (opened.append(path), read(path))[1])
    assert None not in files.digest_files(paths)
    assert len(opened) == 400 - 3 * 50


def test_several_write_one_memory_at_once(tmp_path: Path) -> None:
    def write(number: int) -> None:
        own = FileMemory(tmp_path / "shared.sqlite")  # a connection of its own, as another process has
        for start in range(0, 200, 20):
            own.keep((f"/data/{number}/{row}", b"s" * 32, b"d" * 32) for row in range(start, start + 20))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = FileMemory(tmp_path / "shared.sqlite")
    for number in range(4):
        assert len(kept.find(f"/data/{number}", [str(row) for row in range(300)])) == 200


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = made(tmp_path / "data", 1)
    states = iter(range(100))
    monkeypatch.setattr(files, "_state", lambda seen: b"%032d" % next(states))
    with pytest.raises(DataError, match="changes while it is read"):
        files.file_digest(path)
    assert files.digest_files([path]) == [None]


def test_inside_settled_a_thing_is_looked_at_once_and_outside_always() -> None:
    looks = list[int]()

    def look() -> int:
        looks.append(0)
        return len(looks)

    assert (files.looked(["a"], look), files.looked(["a"], look)) == (1, 2)
    with files.settled():
        assert (files.looked(["a"], look), files.looked(["b"], look), files.looked(["a"], look)) == (3, 4, 3)
        with files.settled():
            assert files.looked(["a"], look) == 3
        with files.fresh():
            assert files.looked(["a"], look) == 5
        assert files.looked(["a"], look) == 3
    assert files.looked(["a"], look) == 6


def test_what_follows_from_content_is_remembered_between_commands() -> None:
    assert files.derived("k", lambda: {"images": ["ä.png"]}) == {"images": ["ä.png"]}
    forget()
    assert files.derived("k", lambda: pytest.fail("asked again")) == {"images": ["ä.png"]}
