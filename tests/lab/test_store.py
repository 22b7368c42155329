"""Store: complete or absent, checked by checksum, one writer, and nothing lost by a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ommatidia.core.console import Console, use
from ommatidia.core.errors import DamagedError, RunError
from ommatidia.lab.nodes.store import Store

KIND, KEY = "features", "abc"
HOLD = """
import sys, time
from pathlib import Path
from ommatidia.lab.nodes.store import Store
with Store(Path(sys.argv[1])).writing():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(store_folder: Path) -> Store:
    return Store(store_folder)


def finished(store: Store, key: str = KEY, text: str = "result") -> Path:
    out = store.scratch(key) / "out"
    (out / "deep").mkdir(parents=True)
    (out / "a.txt").write_text(text)
    (out / "deep" / "b.bin").write_bytes(bytes(1000))
    store.finish(KIND, key, out, {"label": "work", "seconds": 1.5, "flops": 3.0})
    return store.folder(KIND, key)


def test_a_finished_node_is_there_with_its_record(store: Store) -> None:
    assert not store.has(KIND, KEY)
    folder = finished(store)
    assert store.has(KIND, KEY)
    assert Store(store.root).has(KIND, KEY)
    assert (folder / "a.txt").read_text() == "result"
    record = store.record(KIND, KEY)
    assert (record["kind"], record["key"], record["seconds"]) == (KIND, KEY, 1.5)
    assert set(record["files"]) == {"a.txt", "deep/b.bin"}
    assert not (store.root / "work" / KEY).exists()


def test_records_are_by_kind(store: Store) -> None:
    finished(store, "one")
    finished(store, "two")
    assert [record["key"] for record in store.records(KIND)] == ["one", "two"]
    assert store.records("training") == []
    with pytest.raises(RunError, match=r"node\.json: cannot be read"):
        store.record(KIND, "none")


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("damage", "says", "at_a_glance"),
    [
        (lambda folder: (folder / "a.txt").write_text("resulT"), "a.txt does not match its checksum", False),
        (lambda folder: (folder / "a.txt").unlink(), "a.txt is missing", True),
        (lambda folder: os.truncate(folder / "deep" / "b.bin", 999), "b.bin has 999 bytes, expected 1000", True),
        (lambda folder: (folder / "node.json").write_text('{"files"'), "node.json is damaged", True),
        (lambda folder: (folder / "node.json").write_text("{}"), "node.json is damaged", True),
        (lambda folder: (folder / "node.json").unlink(), "node.json is missing", True),
    ],
)
def test_a_damaged_node_is_told_and_left_until_a_writer_removes_it(
    store: Store, damage: Callable[[Path], object], says: str, at_a_glance: bool
) -> None:
    folder = finished(store)
    assert store.damage(KIND, KEY) is None
    damage(folder)
    later, before = Store(store.root), tree(folder)
    assert not later.has(KIND, KEY)
    assert later.exists(KIND, KEY)
    assert says in str(later.verify(KIND, KEY))
    assert (later.damage(KIND, KEY) is not None) == at_a_glance
    with pytest.raises(RunError, match="only a run that holds the store removes a node"):
        later.discard(KIND, KEY)
    assert tree(folder) == before
    with later.writing():
        later.discard(KIND, KEY)
    assert not folder.exists()
    finished(later, text="again")
    assert Store(store.root).has(KIND, KEY)
    assert (folder / "a.txt").read_text() == "again"


def test_a_file_is_compared_with_its_checksum_when_it_is_read(store: Store) -> None:
    folder = finished(store)
    assert store.file(KIND, KEY, "a.txt") == folder / "a.txt"
    (folder / "deep" / "b.bin").write_bytes(bytes(999) + b"1")
    assert store.file(KIND, KEY, "a.txt").read_text() == "result"
    for name, says in (("deep/b.bin", "does not match its checksum"), ("c.txt", "is not among its files")):
        with pytest.raises(DamagedError, match=f"{name} {says}"):
            store.file(KIND, KEY, name)
    (folder / "node.json").unlink()
    with pytest.raises(DamagedError, match=r"node\.json is missing"):
        store.file(KIND, KEY, "a.txt")


def test_a_damaged_record_among_others_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    finished(store, "one")
    (finished(store, "two") / "node.json").write_text("{")
    with use(Console()):
        assert [record["key"] for record in store.records(KIND)] == ["one"]
    assert "node.json is damaged; left as it is" in " ".join(capsys.readouterr().err.split())


def test_a_failure_is_kept_until_the_node_is_finished(store: Store) -> None:
    assert store.failure(KEY) is None
    store.fail(KEY, "work", "the loss is nan", "Traceback ...")
    assert store.failure(KEY) == "the loss is nan"
    assert json.loads((store.root / "failures" / f"{KEY}.json").read_text())["traceback"] == "Traceback ..."
    finished(store)
    assert store.failure(KEY) is None


def test_scratch_survives_until_it_is_tidied(store: Store) -> None:
    (store.scratch(KEY) / "checkpoint").write_text("half")
    assert (Store(store.root).scratch(KEY) / "checkpoint").read_text() == "half"
    store.tidy(KEY)
    assert not (store.root / "work" / KEY).exists()
    store.tidy(KEY)


def test_documents_are_replaced_whole(store: Store) -> None:
    store.write_json("searches/a.json", {"é": 1})
    store.write_json("searches/a.json", {"é": 2})
    assert store.read_json("searches/a.json") == {"é": 2}
    assert [p.name for p in (store.root / "searches").iterdir()] == ["a.json"]
    with pytest.raises(RunError, match=r"b\.json: cannot be read"):
        store.read_json("searches/b.json")
    (store.root / "searches" / "b.json").write_text("{")
    with pytest.raises(RunError, match=r"b\.json: cannot be read"):
        store.read_json("searches/b.json")


def test_searches_are_listed_newest_last(store: Store) -> None:
    assert store.searches() == []
    for number, name in enumerate(("z", "a", "m")):
        store.write_json(f"searches/{name}.json", {})
        os.utime(store.root / "searches" / f"{name}.json", (number, number))
    assert store.searches() == ["z", "a", "m"]


def test_one_process_writes_at_a_time(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(store.root)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {other.pid} is writing this store"), store.writing():
            pass
        other.kill()
        other.wait()
    with store.writing():  # a killed process holds nothing
        assert (store.root / "owner").read_text() == f"process {os.getpid()}"
    with store.writing():
        pass
    assert not (store.root / "owner").exists()


def test_the_lock_is_given_back_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writing():
        raise ZeroDivisionError
    began = time.monotonic()
    with store.writing():
        assert time.monotonic() - began < 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store")
    for attempt in (store.scratch, lambda key: store.write_json("a.json", {}), lambda key: store.fail(key, "", "", "")):
        with pytest.raises(RunError, match=r"file/store.*writable disk"):
            attempt(KEY)
    with pytest.raises(RunError, match="writable disk"), store.writing():
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_named(store: Store) -> None:
    finished(store)
    store.root.chmod(0o500)
    try:
        assert Store(store.root).has(KIND, KEY)
        with pytest.raises(RunError, match="writable disk"), store.writing():
            pass
    finally:
        store.root.chmod(0o700)
