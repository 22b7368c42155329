"""The validator finds every planted fault, names its line, and finds nothing else."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import Sample
from ommatidia.data import json_records
from ommatidia.data.census import Census, Spread, sizes
from ommatidia.data.check import each, problems
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.lab.data.checking import check, count, read_sources


def talk(name: str, *turns: str, **more: Any) -> dict[str, Any]:
    spoken = [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(turns)]
    return {"id": name, "conversations": spoken, **more}


FAULTY: list[Any] = [
    talk("fine", "<image>\nWhat?", "A box.", image="0.png"),
    talk("gone", "<image>\nWhat?", "A box.", image="9.png"),
    talk("cut", "<image>\nWhat?", "A box.", image="cut.png"),
    "{not json",
    talk("many", "<image><image>", "", image=["0.png", "8.png", "7.png"]),
    {"id": "order", "conversations": [{"from": "gpt", "value": "Yes."}, {"from": "human", "value": "No?"}]},
    talk("silent", "Hello?", "  "),
    talk("fine", "Again?", "Yes."),
    talk("stranger", "Who?", "Me.") | {"conversations": [{"from": "robot", "value": "x"}, {"from": "human"}]},
    talk("asked", "Who?"),
    talk("fine", "A third time?", "Yes."),
    [1, 2],
]  # fmt: skip
EXPECTED = [
    ("line 2", "gone", "missing image"),
    ("line 3", "cut", "broken image"),
    ("line 5", "", "not JSON"),
    ("line 6", "many", "placeholders"),
    ("line 6", "many", "missing image"),
    ("line 6", "many", "missing image"),
    ("line 6", "many", "empty answer"),
    ("line 7", "order", "roles"),
    ("line 8", "silent", "empty answer"),
    ("line 10", "stranger", "roles"),
    ("line 10", "stranger", "layout"),
    ("line 10", "stranger", "roles"),
    ("line 11", "asked", "no answer"),
    ("line 13", "", "layout"),
    ("line 9", "fine", "duplicate id"),
    ("line 12", "fine", "duplicate id"),
]


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "0.png")
    data = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    lines = [one if isinstance(one, str) else json.dumps(one) for one in FAULTY]
    lines.insert(3, "")  # a blank line counts as a line and is no record
    (tmp_path / "faulty.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "faulty.jsonl"


@pytest.mark.parametrize("threads", [1, 3])
def test_every_planted_fault_is_found_with_its_line(faulty: Path, threads: int) -> None:
    found = list(problems("f", LlavaJSON(path=faulty).inspect(), threads=threads))
    assert [(p.place, p.id, p.kind) for p in found] == EXPECTED
    assert found[-1].cause == "the id of line 1 as well"


def test_the_command_counts_by_kind_and_says_what_is_wrong(faulty: Path) -> None:
    said: list[str] = []
    told = check(read_sources(faulty), tell=lambda p: said.append(str(p)), folder=faulty.parent / "pages")
    assert told.counts == Counter(kind for _, _, kind in EXPECTED)
    assert told.lines[0] == "12 records of 1 source(s): 16 problem(s)"
    assert said[2] == (
        "faulty.jsonl: line 5: [not JSON] not valid JSON (Expecting property name enclosed in double quotes)"
    )
    page = (faulty.parent / "pages" / "faulty.jsonl.html").read_text()
    assert page.count("<article>") == 12
    assert page.count("data:image/jpeg;base64,") == 1
    assert 'title="40 x 30 px"' in page
    (faulty.parent / "pages" / "faulty.jsonl.html").write_text("my notes")
    said.clear()
    with pytest.raises(ConfigError, match=r"faulty\.jsonl\.html: was changed since it was written"):
        check(read_sources(faulty), tell=lambda p: said.append(str(p)), folder=faulty.parent / "pages")
    assert said == []  # before the work


def test_records_that_share_a_line_are_counted(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "why?"}, {"from": "gpt", "value": ""}]
    rows = [{"id": str(number), "conversations": turns} for number in range(3)]
    places = {}
    for name, text in {
        "one line": json.dumps(rows),
        "indented": json.dumps(rows, indent=0),
        "a line each": "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]",
    }.items():
        path = tmp_path / "data.json"
        path.write_text(text, encoding="utf-8")
        inspection = LlavaJSON(path=path).inspect()
        places[name] = [inspection.look(index).place for index in range(3)]
    assert places["one line"] == ["record 1", "record 2", "record 3"]
    assert places["a line each"] == ["line 2", "line 3", "line 4"]
    assert len(set(places["indented"])) == 3


def test_a_list_that_breaks_off_is_checked_up_to_there(tmp_path: Path) -> None:
    records = [talk(f"r{k}", "Who?", "Me.") for k in range(3)]
    text = json.dumps(records, indent=1)
    (tmp_path / "cut.json").write_text(text[: text.index('"r2"')])
    inspection = LlavaJSON(path=tmp_path / "cut.json").inspect()
    assert len(inspection) == 2
    assert inspection.look(1).place == f"line {text[: text.index('r1')].count(chr(10))}"
    (whole,) = problems("f", inspection)
    assert (whole.place, whole.kind) == ("", "not JSON")
    assert "line 29: not valid JSON" in whole.cause


@pytest.mark.parametrize("window", [1, 7, 64, 2**20])
def test_a_list_is_indexed_alike_through_any_window(tmp_path: Path, window: int, monkeypatch: Any) -> None:
    records = [talk(f"r{k}", f'Wie groß? 你好 [{k}, {{2}}] \\ "' * k, "Me.") for k in range(20)]
    path = tmp_path / f"{window}.json"
    path.write_text(json.dumps(records, ensure_ascii=False, indent=2), encoding="utf-8")
    monkeypatch.setattr(json_records, "_WINDOW", window)
    assert [record for _, record in json_records.read_records(path)] == records
    _, lines, broken = json_records.inspect(path)
    text = path.read_text(encoding="utf-8").split("\n")
    assert [number + 1 for number, line in enumerate(text) if line == "  {"] == list(lines)
    assert broken is None


def test_too_long_for_a_context(faulty: Path) -> None:
    def words(sample: Sample) -> int:
        return sum(len(message.text.split()) for message in sample.messages)

    found = problems("f", LlavaJSON(path=faulty).inspect(), measure=words, longest=3)
    assert [(p.id, p.cause) for p in found if p.kind == "too long"] == [("fine", "4 tokens; 3 fit")]


def test_records_ahead_are_bounded_and_in_order() -> None:
    looked: list[int] = []

    class Endless:
        faults = ()

        def __len__(self) -> int:
            return 10**6

        def look(self, index: int) -> Any:
            looked.append(index)
            return index

    walk = each(Endless(), lambda one: one, threads=2)
    assert [next(walk)[0] for _ in range(40)] == list(range(40))
    walk.close()
    assert len(looked) < 1000


def test_a_census_in_exact_numbers(faulty: Path) -> None:
    told = count({"f": LlavaJSON(path=faulty)})
    data = told.data["f"]
    assert (data["records"], data["unusable"]) == (12, 6)
    assert data["answers"] == {"Yes.": 2, "A box.": 2, "": 1}
    assert data["spreads"]["short side (px)"]["most"] == 30
    assert data["spreads"]["long side (px)"]["total"] == 40  # the cut one has no size
    assert told.lines == ["f: 12 records, 6 of them unusable"]


def test_percentiles_are_exact() -> None:
    spread = Spread.of({1: 89, 2: 1, 50: 10})
    assert (spread.least, spread.tenth, spread.median, spread.ninetieth, spread.most) == (1, 1, 1, 2, 50)
    assert spread.mean == (89 + 2 + 500) / 100


def test_answers_beyond_memory_are_lower_bounds(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("ommatidia.data.census._ANSWERS", 2)
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(talk(str(k), "Q", a)) for k, a in enumerate("aabbcadea")))
    census, inspection = Census(), LlavaJSON(path=path).inspect()
    for index in range(len(inspection)):
        looked = inspection.look(index)
        census.add(looked, sizes(looked))
    assert census.answers["a"] == 4
    assert census.forgotten == 2


def test_a_mixture_is_checked_source_by_source(faulty: Path, tmp_path: Path) -> None:
    text = f"sources:\n  one: {{source: {{kind: llava_json, path: {faulty}}}}}\n"
    text += f"  two: {{source: {{kind: llava_json, path: {tmp_path}/none.jsonl}}}}\n"
    (tmp_path / "blend.yaml").write_text(text)
    said = []
    told = check(read_sources(tmp_path / "blend.yaml"), tell=said.append)
    assert told.counts["unusable"] == 1
    assert [p.source for p in said] == ["one"] * 16 + ["two"]
    assert "no such file" in said[-1].cause
    with pytest.raises(ConfigError, match=r"ends in '\.csv'"):
        read_sources(Path("x.csv"))


def test_the_command_line(faulty: Path) -> None:
    from ommatidia import cli

    runner = CliRunner()
    done = runner.invoke(cli.app, ["--json", "data", "check", str(faulty)])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["counts"]["duplicate id"] == 2
    (faulty.parent / "good.jsonl").write_text(json.dumps(FAULTY[0]))
    done = runner.invoke(cli.app, ["data", "check", str(faulty.parent / "good.jsonl")])
    assert done.exit_code == 0
    assert "1 records of 1 source(s): 0 problem(s)" in done.stdout
    done = runner.invoke(cli.app, ["data", "stats", str(faulty.parent / "good.jsonl")])
    assert done.exit_code == 0
    assert "A box." in done.stdout


@pytest.mark.parametrize(
    ("behind", "line"),
    [("\n[{}]", 4), ("[]", 3), ("\n\n nonsense", 5), ("\n" * 5000 + "]", 5003), (" \r\n\t\n", None), ("", None)],
)
@pytest.mark.parametrize("window", [8, 2**22])
def test_all_of_a_file_is_read(
    tmp_path: Path, behind: str, line: int | None, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "_WINDOW", window)
    path = tmp_path / "two.json"
    path.write_text("[\n" + json.dumps(talk("a", "Who?", "Me.")) + "\n]" + behind)
    found = list(problems("f", LlavaJSON(path=path).inspect()))
    if line is None:
        assert found == []
        assert len(LlavaJSON(path=path).open()) == 1
        return
    assert [(one.kind, one.cause.split(":")[0]) for one in found] == [("not JSON", f"line {line}")]
    with pytest.raises(DataError, match=f"two.json: line {line}: .* behind the end of the list"):
        LlavaJSON(path=path).open()


@pytest.mark.parametrize("text", ["", " \n\n", "[]", "[\n]\n"])
def test_a_file_without_records_is_a_problem(tmp_path: Path, text: str) -> None:
    (tmp_path / "none.json").write_text(text)
    told = check(read_sources(tmp_path / "none.json"), tell=lambda problem: None)
    assert told.counts == {"no records": 1}
    with pytest.raises(DataError, match="no records"):
        LlavaJSON(path=tmp_path / "none.json").open()


@pytest.mark.parametrize(
    ("change", "kind", "names"),
    [
        ({"video": "a.mp4"}, "field", "'video'"),
        ({"videos": ["a.mp4"]}, "field", "'videos'"),
        ({"audios": ["a.wav"]}, "field", "'audios'"),
        ({"tools": "[]"}, "field", "'tools'"),
        (
            {"conversations": [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "x"}]},
            "mark",
            "<video>",
        ),
        ({"system": "<image_placeholder>"}, "mark", "<image_placeholder>"),
        ({"history": ["q", "a"]}, "layout", "'history'"),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x", "loss": False}]},
            "field",
            r"messages\[1\] has the loss False",
        ),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x", "weight": 0.5}]},
            "field",
            "weight 0.5",
        ),
        ({"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "q"}]}, "roles", "turn 1"),
    ],
)
def test_what_is_not_read_is_refused_by_name_in_check_and_run(
    tmp_path: Path, change: dict[str, Any], kind: str, names: str
) -> None:
    record = talk("a", "q", "x") | change
    if "messages" in change:
        del record["conversations"]
    (tmp_path / "one.jsonl").write_text(json.dumps(record))
    source = LlavaJSON(path=tmp_path / "one.jsonl")
    (found,) = problems("f", source.inspect())
    assert found.kind == kind
    with pytest.raises(DataError, match=names) as caught:
        source.open()[0]
    assert (caught.value.kind, caught.value.cause) == (kind, found.cause)


def test_system_and_history_are_read_and_other_fields_are_listed_once(tmp_path: Path) -> None:
    asked = {"instruction": "q2", "input": "", "output": "a2", "history": [["q1", "a1"]], "system": "S", "model": "m"}
    path = tmp_path / "two.jsonl"
    path.write_text("\n".join(map(json.dumps, [asked, talk("b", "q", "<image>", system="T", model="m", lang="en")])))
    source = LlavaJSON(path=path).open()
    said = [[(message.role, message.text) for message in source[row].messages] for row in range(2)]
    assert said[0] == [("system", "S"), ("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    assert said[1] == [("system", "T"), ("user", "q"), ("assistant", "<image>")]
    told = check(read_sources(path), tell=lambda problem: None)
    assert told.counts == {"mark": 1}, "an answer that holds a placeholder"
    assert told.lines[1] == "two.jsonl: fields that nothing reads: 'model' (2), 'lang' (1)"


def test_an_image_whose_colours_are_dropped_is_named(tmp_path: Path) -> None:
    shape = np.arange(64, dtype=np.uint8).reshape(8, 8)
    black = np.zeros((8, 8, 3), np.uint8)
    made = {
        "alpha": Image.fromarray(np.dstack([black, shape])),
        "deep": Image.fromarray(shape.astype(np.uint16)),
        "plain": Image.fromarray(black),
        "seen": Image.fromarray(np.dstack([black + shape[..., None], shape])),
        "high": Image.fromarray(shape.astype(np.uint16) * 500),
    }
    for name, image in made.items():
        image.save(tmp_path / f"{name}.png")
    records = [talk(name, "<image>?", "x", image=f"{name}.png") for name in made]
    (tmp_path / "d.json").write_text(json.dumps(records, indent=0))
    found = list(problems("f", LlavaJSON(path=tmp_path / "d.json").inspect()))
    assert [(one.id, one.kind) for one in found] == [("alpha", "one colour"), ("deep", "one colour")]
    assert "alpha channel" in found[0].cause
    assert "16-bit" in found[1].cause
