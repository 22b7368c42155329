"""Store: complete or absent, checked by checksum, one writer, and nothing lost by a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ommatidia.core.console import Console, use
from ommatidia.core.errors import RunError
from ommatidia.lab.store import Store

KIND, KEY = "features", "abc"
HOLD = """
import sys, time
from pathlib import Path
from ommatidia.lab.store import Store
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


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "a.txt").write_text("resulT"), "a.txt does not match its checksum"),
        (lambda folder: (folder / "a.txt").unlink(), "a.txt is missing"),
        (lambda folder: os.truncate(folder / "deep" / "b.bin", 999), "b.bin does not match its checksum"),
        (lambda folder: (folder / "node.json").write_text('{"files"'), "node.json is damaged"),
        (lambda folder: (folder / "node.json").write_text("{}"), "node.json is damaged"),
    ],
)
def test_a_damaged_node_is_removed_and_can_be_made_again(store: Store, damage, says, capsys) -> None:  # type: ignore[no-untyped-def]
    folder = finished(store)
    damage(folder)
    later = Store(store.root)
    with use(Console()):
        assert not later.has(KIND, KEY)
    warned = " ".join(capsys.readouterr().err.split())
    assert says in warned
    assert "it will be made again" in warned
    assert not folder.exists()
    finished(later)
    assert Store(store.root).has(KIND, KEY)


def test_what_a_kill_left_of_a_removed_node_is_in_nobodys_way(store: Store) -> None:
    folder = finished(store)
    (folder / "node.json").unlink()
    later = Store(store.root)
    assert not later.has(KIND, KEY)
    finished(later, text="again")
    assert (folder / "a.txt").read_text() == "again"
    assert Store(store.root).has(KIND, KEY)


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
