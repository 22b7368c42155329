"""Contents are known by what files hold, and say which file is another."""

from __future__ import annotations

from pathlib import Path

import pytest

from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError


def test_contents_name_what_changed(tmp_path: Path) -> None:
    names = ["a", 'q"uote', "ü\ud800"]
    paths = {name: tmp_path / str(number) for number, name in enumerate(names)}
    for path in paths.values():
        path.write_text(path.name)
    before = Contents.of_files({**paths, "late": tmp_path / "late"})
    assert [name for name, _, _ in before] == [*names, "late"]
    assert [made for _, _, made in before][-1] is None
    assert Contents.read(before.lines) == before
    (tmp_path / "1").write_text("9")
    (tmp_path / "late").write_text("here")
    now = Contents.of_files({**paths, "late": tmp_path / "late", "new": tmp_path / "0"})
    assert before.changed(now) == ['q"uote', "late", "new"]
    assert before.changed(before) == []
    assert Contents.joined([before, now]).changed(Contents.joined([before, before])) == ['q"uote', "late", "new"]


def test_what_must_be_there_is_missed_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.json: no such file"):
        Contents.of_needed({"list.json": tmp_path / "list.json"})
    assert not Contents()
    assert Contents.of([("a", None, None)])
