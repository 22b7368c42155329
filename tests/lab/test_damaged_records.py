"""A byte that changes in a record is named, never shown as a result; a record whose name is taken is kept."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_toys import COMMAND, round_robin

from ommatidia.core.checked_json import checked, read_checked
from ommatidia.core.console import Console, use
from ommatidia.core.errors import RunError
from ommatidia.lab.drive import report_search
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.run.record import load_record, save_record
from ommatidia.lab.run.recorder import Recorder

if TYPE_CHECKING:
    from conftest import Searched

NAME, TRIES = "tiny", 60


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with use(Console(quiet=True)):
        yield


@pytest.fixture
def store(searched: Searched, tmp_path: Path) -> Store:
    shutil.copytree(searched.store.root, tmp_path / "store")
    return Store(tmp_path / "store")


def drawn(store: Store, out: Path) -> str:
    return report_search(Store(store.root), NAME, out=out).with_name("report.json").read_text(encoding="utf-8")


def test_every_changed_byte_of_a_document_is_found() -> None:
    text = checked({"words": "a é \u2028", "numbers": [1, 0.1, 1e-300, True, None], "empty": {}})
    assert read_checked(text) == {"words": "a é \u2028", "numbers": [1, 0.1, 1e-300, True, None], "empty": {}}
    whole = text.encode()
    key = whole.index(b'"checksum"')
    for place in range(len(whole)):
        for bit in (1, 2, 4, 16):
            damaged = whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
            try:
                read = read_checked(damaged)
            except ValueError:
                continue
            # Whitespace between values says nothing; without its name the checksum is one more field, beside the rest.
            assert {k: v for k, v in read.items() if k in ("words", "numbers", "empty")} == read_checked(text)
            assert whole[place : place + 1].isspace() or key < place < key + 10


def test_a_page_over_damaged_records_is_the_same_or_names_the_damage(store: Store, tmp_path: Path) -> None:
    sound = drawn(store, tmp_path / "out")
    kept = sorted({key: entry.kind for key, entry in load_record(store, NAME).nodes.items()}.items())
    chance = random.Random(3)
    named = 0
    for number in range(TRIES):
        key, kind = chance.choice(kept)
        path = store.folder(kind, key) / "node.json"
        whole = path.read_bytes()
        place = chance.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(7)]) + whole[place + 1 :])
        after = drawn(store, tmp_path / str(number))
        page = (tmp_path / str(number) / "report.md").read_text(encoding="utf-8").replace("\\", "")
        says = f"{kind}/{key}): node.json is damaged" in page
        assert says or after == sound
        named += says
        path.write_bytes(whole)
    assert named > TRIES / 2


def test_a_damaged_search_record_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    path = store.root / "searches" / f"{NAME}.json"
    path.write_bytes(path.read_bytes().replace(b'"visual_tokens": ', b'"visual_tokens": 1', 1))
    with pytest.raises(RunError, match=r"tiny\.json: cannot be read: it does not match its checksum"):
        drawn(store, tmp_path / "out")


def test_a_search_whose_name_is_taken_keeps_its_report(store: Store, tmp_path: Path) -> None:
    mine, sound = load_record(store, NAME), drawn(store, tmp_path / "out")
    other = {**mine.definition, "jobs": 2}
    Recorder.begin(store, NAME, command="another project", definition=other)
    assert (load_record(store, NAME).trials, load_record(store, NAME).definition) == ((), other)
    assert store.searches() == [f"{NAME}.1", NAME]
    page = report_search(store, f"{NAME}.1", out=tmp_path / "aside").with_name("report.json").read_text()
    assert {**json.loads(page), "title": NAME} | {"manifest": None} == {**json.loads(sound), "manifest": None}
    # Begun again, the first search goes on with what it knew, and is set aside under the same name as before.
    save_record(load_record(store, NAME).model_copy(update={"trials": mine.trials[:1]}), store)
    Recorder.begin(store, NAME, command=COMMAND, definition=mine.definition)
    assert load_record(store, NAME).trials == mine.trials
    assert load_record(store, f"{NAME}.2").definition == other
    Recorder.begin(store, NAME, command=COMMAND, definition=other)
    assert sorted(store.searches()) == [NAME, f"{NAME}.1", f"{NAME}.2"]
    assert len(load_record(store, NAME).trials) == 1


def test_an_unchanged_search_sets_nothing_aside(store: Store) -> None:
    Recorder.begin(store, NAME, command=COMMAND, definition=round_robin().to_dict())
    assert store.searches() == [NAME]
