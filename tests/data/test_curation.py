"""Curation: every operation by exact counts; the whole resumes after a kill, and the output is a training file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError, RunError
from ommatidia.data.curation import curate as module
from ommatidia.data.curation import report
from ommatidia.data.curation.curate import Curation, Passage, curate
from ommatidia.data.curation.near_duplicates import likeness, minhash
from ommatidia.data.curation.operation import Lot
from ommatidia.data.llava_json import LlavaJSON


def said(question: str, answer: str, **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {**fields, "conversations": turns}


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    noise = np.random.RandomState(seed).randint(0, 255, (*size[::-1], 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)


@pytest.fixture
def curated(tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], list[Passage]]]:
    """Curate records by source (a source named ``a.ocr`` is of category ``ocr``); the records and the passages."""

    def run(
        sources: dict[str, Iterable[dict[str, Any]]], *operations: Any, **fields: Any
    ) -> tuple[list[dict[str, Any]], list[Passage]]:
        corpora = {}
        for name, records in sources.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
            source, _, category = name.partition(".")
            corpora[source] = {"path": str(path), "category": category or "all"}
        config = Curation.parse({"sources": corpora, "operations": list(operations), **fields})
        out = tmp_path / "out" / "curated.jsonl"
        out.parent.mkdir(exist_ok=True)
        passages = curate(config, out)
        return [json.loads(line) for line in out.read_text().splitlines()], passages

    return run


def many(name: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    return [said(f"question {n} of {name}?", f"answer {n}", id=f"{name}{n}", **fields) for n in range(count)]


def test_a_lot_keeps_exactly_as_many_and_each_as_likely() -> None:
    kept: Counter[int] = Counter()
    for key in range(2000):
        lot = Lot(10, 3, f"key{key}")
        drawn = [n for n in range(10) if lot.keeps()]
        assert len(drawn) == 3
        kept.update(drawn)
    assert all(abs(count - 600) < 100 for count in kept.values())  # five standard deviations
    assert [Lot(5, 5, "x").keeps() for _ in range(5)] == [True] * 5


def test_cap(curated) -> None:
    records, passages = curated(
        {"big": many("big", 100), "mid": many("mid", 40), "small": many("small", 7)},
        {"kind": "cap", "most": 10, "sources": {"mid": 20}},
    )
    assert Counter(record["source"] for record in records) == {"big": 10, "mid": 20, "small": 7}
    assert passages[1].dropped == {"more than 10 of its source": 90, "more than 20 of its source": 20}
    assert passages[1].before.total() - passages[1].after.total() == 110
    other, _ = curated({"big": many("big", 100)}, {"kind": "cap", "most": 10}, seed=1)
    assert {record["id"] for record in other} != {record["id"] for record in records[:10]}
    with pytest.raises(ConfigError, match=r"operations\.0\.most: Input should be greater than or equal to 1"):
        curated({"a": many("a", 3)}, {"kind": "cap", "most": 0})


def test_ratio(curated) -> None:
    corpora = {"a.ocr": many("a", 50), "b.ocr": many("b", 10), "c.text": many("c", 30), "d.code": many("d", 5)}
    shares = {"ocr": 60, "text": 30, "code": 0}
    records, _ = curated(corpora, {"kind": "ratio", "shares": shares, "total": 30})
    assert Counter(record["category"] for record in records) == {"ocr": 20, "text": 10}
    records, _ = curated(corpora, {"kind": "ratio", "shares": shares})
    assert Counter(record["category"] for record in records) == {"ocr": 60, "text": 30}
    with pytest.raises(ConfigError, match=r"80 records of category 'ocr' are wanted and 60 are there; .* about 90"):
        curated(corpora, {"kind": "ratio", "shares": shares, "total": 120})
    with pytest.raises(DataError, match="unknown category 'code'"):
        curated(corpora, {"kind": "ratio", "shares": {"ocr": 1, "text": 1}})
    with pytest.raises(ConfigError, match="ocr, text sum to 0"):
        curated(corpora, {"kind": "ratio", "shares": {"ocr": 0, "text": 0}})


def test_quality(curated) -> None:
    scored = [said("?", str(n), id=str(n), scores={"clip": score}) for n, score in enumerate((0.1, 0.9, 0.5, 0.5, 0.5))]
    best = {"kind": "quality", "field": "scores.clip", "keep": {"pairs": 0.6}}
    records, _ = curated({"pairs": scored, "fine": many("fine", 3)}, best)
    assert [record["id"] for record in records] == [
        "pairs/1",
        "pairs/2",
        "pairs/3",
        "fine/fine0",
        "fine/fine1",
        "fine/fine2",
    ]
    records, passages = curated({"pairs": scored}, {"kind": "quality", "field": "scores.clip", "least": 0.5})
    assert (len(records), passages[1].dropped) == (4, {"scores.clip below 0.5": 1})
    with pytest.raises(DataError, match=r"scores\.clip is None; expected a number"):
        curated({"pairs": many("pairs", 2)}, best)


def test_format_prompts(curated) -> None:
    corpora = {
        "DVQA": [said("<image>\nHow many bars?", "3", image="x.png")],
        "Q-Instruct": [said("Which? A. dark B. bright", "A"), said("Is it sharp?", "Not at all")],
        "VizWiz": [said("What is it?", "unanswerable")],
        "talk": [said("Tell me a story.", "Once upon a time there was a very small fly."), said("Colour?", "red")],
        "ScreenQA": [said("Time?", "10:30")],
    }
    phrase = "Answer the question using a single word or phrase."
    records, passages = curated(corpora, "format_prompts")
    asked = [record["conversations"][0]["value"] for record in records]
    assert asked == [
        f"<image>\nHow many bars?\n{phrase}",
        "Which? A. dark B. bright\nAnswer with the option's letter from the given choices directly.",
        f"Is it sharp?\n{phrase}",
        f"What is it?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n{phrase}",
        "Tell me a story.",
        "Colour?",
        f"Time?\nWhen the provided information is insufficient, respond with '<no answer>'.\n{phrase}",
    ]
    assert passages[1].changed.total() == 5
    assert [record["provenance"]["changed"] for record in records[3:5]] == [["format_prompts"], []]
    twice, again = curated(corpora, "format_prompts", "format_prompts")
    assert [record["conversations"] for record in twice] == [record["conversations"] for record in records]
    assert again[2].changed.total() == 0
    records, _ = curated(corpora, {"kind": "format_prompts", "others": 3})
    assert [r["conversations"][0]["value"] for r in records[4:6]] == ["Tell me a story.", f"Colour?\n{phrase}"]
    with pytest.raises(ConfigError, match=r"sources\.x: unknown prompt 'phrases'; did you mean 'phrase'"):
        curated(corpora, {"kind": "format_prompts", "sources": {"x": ["phrases"]}})


def test_length(curated) -> None:
    records = [said("a b c", "d"), said("a", "d e f g"), said("", "d"), said("a b", "c"), said("a", "")]
    kept, passages = curated({"s": records}, {"kind": "length", "question_most": 2, "answer_most": 3})
    assert len(kept) == 1
    assert passages[1].dropped == {
        "question of more than 2 words": 1,
        "answer of more than 3 words": 1,
        "question of fewer than 1 words": 1,
        "answer of fewer than 1 words": 1,
    }


def test_resolution(curated, tmp_path) -> None:
    for name, size in {"ok": (60, 50), "small": (60, 9), "long": (99, 40), "large": (150, 140)}.items():
        picture(tmp_path / f"{name}.png", 0, size)
    records = [said("<image>?", "!", id=name, image=f"{name}.png") for name in ("ok", "small", "long", "large")]
    rule = {"kind": "resolution", "least": 10, "most": 149, "ratio": 2}
    kept, passages = curated({"s": [*records, said("text?", "!", id="text")]}, rule)
    assert [record["id"] for record in kept] == ["ok", "text"]
    assert passages[1].dropped.total() == 3
    missing = [*records, said("<image>?", "!", id="gone", image="gone.png")]
    with pytest.raises(DataError, match=r"sample 'gone': .*gone\.png: no such file"):
        curated({"s": missing}, rule)
    _, passages = curated({"s": missing}, {**rule, "unreadable": "drop"})
    assert passages[1].dropped["an image is missing or broken"] == 1


def test_duplicates(curated, tmp_path) -> None:
    for name, seed in {"a": 1, "copy": 1, "b": 2}.items():
        picture(tmp_path / f"{name}.png", seed)
    records = [
        said("<image>\nWhat?", "Red", id="first", image="a.png"),
        said("<image>\nwhat?  ", "red", id="again", image="copy.png"),  # another name, the same bytes
        said("<image>\nWhat?", "Red", id="elsewhere", image="b.png"),
        said("<image>\nWhere?", "there", id="asks", image="a.png"),
    ]
    for by, kept in {
        "text_and_pictures": ["first", "elsewhere", "asks"],
        "text": ["first", "asks"],
        "picture": ["first", "elsewhere"],
    }.items():
        found, _ = curated({"s": records}, {"kind": "duplicates", "by": by})
        assert [record["id"] for record in found] == kept
    found, passages = curated({"s": records}, {"kind": "duplicates", "by": "picture", "at_most": 2})
    assert [record["id"] for record in found] == ["first", "again", "elsewhere"]
    assert passages[1].dropped == {"the same image came 2 times before": 1}


def test_near_duplicates(curated, tmp_path) -> None:
    words = [f"word{n}" for n in range(100)]
    near, far = " ".join([*words[:97], "x", "y", "z"]), " ".join([*words[:50], *(f"other{n}" for n in range(50))])
    exact = len({*zip(words, words[1:], words[2:])} & {*zip(near.split(), near.split()[1:], near.split()[2:])}) / 101
    assert likeness(minhash([" ".join(words)]), minhash([near])) == pytest.approx(exact, abs=0.1)
    records = [
        said(text, "yes", id=str(n)) for n, text in enumerate((" ".join(words), near, far, " ".join(words).upper()))
    ]
    found, passages = curated({"s": records}, {"kind": "near_duplicates", "same_pictures": False})
    assert [record["id"] for record in found] == ["0", "2"]
    assert passages[1].dropped == {"dialogue nearly the same as before": 2}
    for n in range(2):
        picture(tmp_path / f"{n}.png", n)
        records[n]["image"] = f"{n}.png"
    assert len(curated({"s": records[:2]}, "near_duplicates")[0]) == 2
    assert len(curated({"s": records[:2]}, {"kind": "near_duplicates", "same_pictures": False})[0]) == 1


def test_decontaminate(curated, tmp_path) -> None:
    for name, seed in {"seen": 1, "fresh": 2, "exam/held": 1}.items():
        picture(tmp_path / f"{name}.png", seed)
    with Image.open(tmp_path / "seen.png") as image:
        image.resize((120, 90), Image.Resampling.BICUBIC).save(tmp_path / "resized.jpg", quality=85)
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps(said("<image>\nWhat is it?", "a", id="e", image="exam/held.png")))
    records = [
        said("<image>\nOther?", "a", id="picture", image="seen.png"),
        said("<image>\nwhat is it", "a", id="question", image="fresh.png"),
        said("<image>\nWhat is it?", "a", id="both", image="seen.png"),
        said("<image>\nOther?", "a", id="resized", image="resized.jpg"),
        said("Other?", "a", id="none"),
    ]
    against = [{"kind": "llava_json", "path": str(exam)}]
    for fields, kept in (
        ({}, ["question", "resized", "none"]),
        ({"by": "question"}, ["picture", "resized", "none"]),
        ({"by": "either"}, ["resized", "none"]),
        ({"by": "both"}, ["picture", "question", "resized", "none"]),
        ({"pictures": "appearance"}, ["question", "none"]),
    ):
        found, _ = curated({"s": records}, {"kind": "decontaminate", "against": against, **fields})
        assert [record["id"] for record in found] == kept, fields
    with pytest.raises(ConfigError, match="name an evaluation set"):
        curated({"s": records}, "decontaminate")
    with pytest.raises(ConfigError, match="benchmark 'mme': only the command line and the lab know benchmarks"):
        curated({"s": records}, {"kind": "decontaminate", "benchmarks": ["mme"]})


def test_the_output_is_a_training_file_with_provenance(curated, tmp_path) -> None:
    picture(tmp_path / "pictures" / "a.png", 1)
    records, _ = curated({"s.vqa": [said("<image>\nWhat?", "Red", id="r", image="pictures/a.png", score=3)]}, "length")
    assert records[0]["provenance"] == {"file": str(tmp_path / "s.vqa.jsonl"), "record": 1, "changed": []}
    assert {name: records[0][name] for name in ("source", "category", "score", "image")} == {
        "source": "s", "category": "vqa", "score": 3, "image": "../pictures/a.png",
    }  # fmt: skip
    sample = LlavaJSON(path=tmp_path / "out" / "curated.jsonl").open()[0]
    assert sample.images[0].size() == (30, 40)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "curated.jsonl",
        "curated.jsonl.curation.json",
    ]


def test_sources_named_by_the_records(curated, tmp_path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(said("?", str(n), id=str(n), origin="xy"[n % 2])) + "\n" for n in range(10)))
    config = {
        "sources": {"m": {"path": str(path), "source_field": "origin"}},
        "operations": [{"kind": "cap", "most": 2}],
    }
    passages = curate(Curation.parse(config), tmp_path / "c.jsonl")
    assert passages[-1].after == {"x\tall": 2, "y\tall": 2}


def test_broken_records(curated, tmp_path) -> None:
    broken = [
        said("?", "!"),
        {"id": "odd", "image": "x.png"},
        said("<image> <image>", "!", image="x.png"),
        said("?", "!"),
    ]
    with pytest.raises(DataError, match=r"s\.jsonl, sample 'odd \(record 2\)': neither 'conversations'"):
        curated({"s": broken})
    with pytest.raises(DataError, match=r"2 of 4 records are broken, more than the tolerated 40.00%"):
        curated({"s": broken}, tolerance=0.4)
    records, passages = curated({"s": broken}, tolerance=0.5)
    assert (len(records), passages[0].dropped.total()) == (2, 2)


def test_a_stop_costs_one_operation(curated, tmp_path, monkeypatch) -> None:
    corpora = {"a.x": many("a", 30), "b.y": many("b", 20)}
    steps = ["duplicates", {"kind": "cap", "most": 15}, "format_prompts", {"kind": "ratio", "shares": {"x": 1, "y": 1}}]
    _, passages = curated(corpora, *steps)
    out = tmp_path / "out" / "curated.jsonl"
    content = out.read_bytes()
    out.unlink()
    done: list[int] = []
    passed = module._Curating._pass

    def stopping(self: Any, number: int, *, total: int | None) -> Passage:
        if number == 3 and 3 not in done:
            done.append(number)
            raise KeyboardInterrupt
        done.append(number)
        return passed(self, number, total=total)

    monkeypatch.setattr(module._Curating, "_pass", stopping)
    with pytest.raises(KeyboardInterrupt):
        curated(corpora, *steps)
    assert not out.exists()
    _, again = curated(corpora, *steps)
    assert done == [0, 1, 2, 3, 3, 4]
    assert out.read_bytes() == content
    assert [p.to_dict() for p in again] == [p.to_dict() for p in passages]
    curated(corpora, *steps)  # and once more: nothing to do
    assert len(done) == 6
    curated({**corpora, "a.x": many("a", 31)}, *steps)
    assert len(done) == 11


def test_the_report_says_what_and_why(curated) -> None:
    _, passages = curated({"a.x": many("a", 30), "b.y": many("b", 10)}, {"kind": "cap", "most": 10})
    tables = {title: rows for title, _, rows in report.tables(passages)}
    assert tables["operations"][1] == ["cap", "most=10", 40, 20, 0, 20]
    assert tables["sources"] == [["a", 30, "75.00%", 10, "50.00%", 20], ["b", 10, "25.00%", 10, "50.00%", 0]]
    assert tables["categories"][0][:3] == ["x", 30, "75.00%"]
    assert tables["why"][0][:4] == ["cap", "dropped", "more than 10 of its source", 20]
    assert "| cap | most=10 | 40 | 20 | 0 | 20 |" in report.markdown(passages)
    page = report.html([Passage("read", examples={}, dropped=Counter({"<b>": 1}))])
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    "operation",
    [
        {"kind": "cap", "most": 9, "sources": {"tlak": 1}},
        {"kind": "quality", "field": "score", "keep": {"tlak": 0.5}},
        {"kind": "format_prompts", "sources": {"Talk": ["phrase"], "tlak": ["short"]}},
        {"kind": "ratio", "shares": {"tlak": 1, "talk": 1}},
    ],
)
def test_a_name_that_no_record_has_is_told_before_work(curated, operation, tmp_path) -> None:
    what = "category" if operation["kind"] == "ratio" else "source"
    with pytest.raises(ConfigError, match=f"unknown {what} 'tlak'; did you mean 'talk'"):
        curated({"talk.talk": [said("Why?", "So.", id="1")]}, operation)
    assert not list((tmp_path / "out").glob("*.work"))
    records = [said("Why?", "So.", id="1", origin="talk", field="talk")]
    path = tmp_path / "mixed.jsonl"
    path.write_text(json.dumps(records[0]))
    corpus = {"path": str(path), "source_field": "origin", "category_field": "field"}
    with pytest.raises(ConfigError, match=f"unknown {what} 'tlak'; did you mean 'talk'"):
        curate(Curation.parse({"sources": {"m": corpus}, "operations": [operation]}), tmp_path / "c.jsonl")


def test_data_that_change_meanwhile_are_told(curated, tmp_path, monkeypatch) -> None:
    settle = module._Curating._settle

    def meddling(self: Any, number: int, passages: list[Passage]) -> None:
        settle(self, number, passages)
        (tmp_path / "s.jsonl").write_text(json.dumps(said("Now?", "Never.")))

    monkeypatch.setattr(module._Curating, "_settle", meddling)
    with pytest.raises(RunError, match="the data changed while they were curated"):
        curated({"s": many("s", 3)}, "duplicates")
    assert not (tmp_path / "out" / "curated.jsonl").exists()


def test_images_that_are_not_there_are_counted(curated, capsys) -> None:
    curated({"s": [said("<image>?", str(n), image=f"{n}.png") for n in range(5)]}, "length")
    assert "5 images that" in " ".join(capsys.readouterr().err.split())
