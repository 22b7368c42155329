"""A folder that holds anything we did not write is refused and stays as it is; what we wrote is replaced whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.core.folders import SEAL, check_seal, claim_folder, read_seal, replaced_folder


def write(folder: Path, kind: str = "model", *, text: str = "new", inputs: tuple[Path, ...] = ()) -> None:
    with replaced_folder(folder, kind, inputs=inputs) as draft:
        (draft / "inner").mkdir()
        (draft / "a.txt").write_text(text)
        (draft / "inner" / "b.txt").write_text(text)


def held(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_new_an_empty_and_our_own_folder_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "deep" / "new", tmp_path / "empty"):
        write(folder, text="first")
        write(folder, text="second")
        assert {**held(folder), SEAL: ""} == {"a.txt": "second", "inner/b.txt": "second", SEAL: ""}
        assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("place", ["thesis.tex", "chapters/1.tex", "inner/c.txt", ".git/HEAD", "a.txt.bak"])
@pytest.mark.parametrize("ours", [False, True])
def test_a_foreign_file_is_named_and_stays(tmp_path: Path, place: str, ours: bool) -> None:
    folder = tmp_path / "thesis"
    if ours:
        write(folder)
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("my only copy")
    before = held(folder)
    with pytest.raises(ConfigError, match=f"holds '{place}', which we did not write; nothing is replaced"):
        write(folder)
    assert held(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_file_that_came_while_we_wrote_stays(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def meanwhile() -> None:
        with replaced_folder(folder, "model") as draft:
            (draft / "a.txt").write_text("new")
            folder.mkdir()
            (folder / "late.txt").write_text("somebody's")

    with pytest.raises(ConfigError, match=r"holds 'late\.txt'"):
        meanwhile()
    assert held(folder) == {"late.txt": "somebody's"}


def test_a_readme_may_be_edited_and_another_kind_may_not_be_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder)
    (folder / "README.md").write_text("about it")
    write(folder)
    with pytest.raises(ConfigError, match="holds a folder of kind 'model', not 'export'"):
        write(folder, "export")


def test_places_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    home = tmp_path / "people" / "home"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    source = tmp_path / "data" / "source"
    for folder, says in (
        (tmp_path / "file", "a file is there"), (tmp_path / "link", "a link to"), (Path("/"), "holds more than one"),
        (home, "holds more than one result"), (home.parent, "holds more"), (tmp_path / ("n" * 300), "no place for a"),
        (tmp_path / "a\0b", "no place for a folder"), (source, "which is read"), (source / "inner", "which is read"),
        (source.parent, "which is read"), (source / ".." / "source", "which is read"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            write(folder, inputs=(source,))
    assert (tmp_path / "file").read_text() == "x"


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder, text="first")
    with pytest.raises(ZeroDivisionError), replaced_folder(folder, "model") as draft:
        (draft / "a.txt").write_text(str(1 / 0))
    assert held(folder)["a.txt"] == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_claimed_folder_takes_files_of_ours_alone(tmp_path: Path) -> None:
    claim_folder(tmp_path / "out", ours=("report.*", "model"))
    (tmp_path / "out" / "report.html").write_text("ours")
    claim_folder(tmp_path / "out", ours=("report.*", "model"))
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'notes\.txt', which we did not write"):
        claim_folder(tmp_path / "out", ours=("report.*", "model"))


def test_a_seal_names_what_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder)
    sealed = read_seal(folder)
    assert sealed is not None
    check_seal(folder, sealed)
    (folder / "inner" / "b.txt").write_text("neu")
    with pytest.raises(RunError, match=r"inner/b\.txt: its checksum is not the saved one"):
        check_seal(folder, sealed)
    check_seal(folder, sealed, files="a*")
    (folder / "extra.txt").write_text("x")
    check_seal(folder, sealed, files="a*")
    with pytest.raises(RunError, match=r"extra\.txt: not among the files that were saved here"):
        check_seal(folder, sealed, files="a*", unlisted=("*.txt",))
    (folder / SEAL).write_text("{}")
    with pytest.raises(RunError, match="damaged; expected the checksums"):
        read_seal(folder)
