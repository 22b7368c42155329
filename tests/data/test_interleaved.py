"""Documents and pairs from the web: exact contents, and every way a record goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.picture import FilePicture
from ommatidia.core.types import ImagePart, Message, Sample
from ommatidia.data import Interleaved, LlavaJSON, Pairs
from ommatidia.data.check import problems
from ommatidia.data.guess import guess
from ommatidia.models.language import ChatFormat


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        Image.new("RGB", (8 + number, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def written(folder: Path, *records: Any, name: str = "docs.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def info(name: str, index: Any, similarity: Any = 0.3) -> dict[str, Any]:
    return {"image_name": name, "matched_text_index": index, "matched_sim": similarity}


MMC4 = {
    "text_list": ["One <image> two. ", " Three.", "Four."],
    "image_info": [info("2.png", 2, 0.2), info("0.png", 0), info("1.png", 2, 0.4)],
}


def parts(source: Any, index: int = 0) -> tuple[Any, ...]:
    sample: Sample = source.open()[index]
    (message,) = sample.messages
    assert message.role == "document"
    names = [p.path.name for p in sample.images if isinstance(p, FilePicture)]
    return tuple(names[p.index] if isinstance(p, ImagePart) else p for p in message.parts)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ("0.png", "One <image> two. Three.", "2.png", "1.png", "Four.")),
        ({"place": "after"}, ("One <image> two.", "0.png", "Three. Four.", "2.png", "1.png")),
        ({"most_images": 2}, ("0.png", "One <image> two. Three.", "2.png", "Four.")),
        ({"most_images": 0, "separator": "\n"}, ("One <image> two.\nThree.\nFour.",)),
        ({"least_similarity": 0.3}, ("0.png", "One <image> two. Three.", "1.png", "Four.")),
        ({"least_similarity": 0.3, "most_images": 1, "after_image": ":"}, ("0.png", ":One <image> two. Three. Four.")),
    ],
)  # fmt: skip
def test_mmc4(folder: Path, options: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert parts(Interleaved(path=written(folder, MMC4), **options)) == wanted


def test_obelics_in_the_order_of_the_page(folder: Path) -> None:
    record = {"texts": ["A", None, None, "B", "C"], "images": [None, "1.png", "0.png", None, None]}
    path = written(folder, record, {"texts": ["Only text."], "images": [None]})
    assert parts(Interleaved(path=path)) == ("A", "1.png", "0.png", "B C")
    assert parts(Interleaved(path=path, most_images=1, separator="\n\n")) == ("A", "1.png", "B\n\nC")
    assert parts(Interleaved(path=path), 1) == ("Only text.",)


def test_the_loss_is_on_all_text_and_the_end() -> None:
    document = Message("document", ("Before. ", ImagePart(0), "Behind."))
    for name, start, end in (("vicuna_v1", "<s>", "</s>"), ("plain", "<s>", "\n"), ("chatml", "", "<|im_end|>")):
        chat = ChatFormat.parse(name)
        rendered = chat.render([document], answer=True)
        texts = [(s.text, s.supervised, s.template) for s in rendered if not isinstance(s, ImagePart)]
        wanted = [(start, False, True)] if start else []
        assert texts == [*wanted, ("Before. ", True, False), ("Behind.", True, False), (end, True, True)]
        assert [k for k, s in enumerate(rendered) if isinstance(s, ImagePart)] == [len(wanted) + 1]
    with pytest.raises(DataError, match="asks nothing"):
        chat.render([document], answer=False)
    with pytest.raises(DataError, match="must be the only one"):
        chat.render([document, Message("user", ("Hi",))], answer=True)


REMOTE = (
    r"https://x\.org/1\.png: a remote image, and no run fetches any; download it and write its path into the document, "
    r"or leave it out \(missing: leave_out\)"
)
BROKEN: list[tuple[dict[str, Any], list[str], str]] = [
    ({"text_list": [" ", ""], "image_info": [info("0.png", 0)]}, ["no text"], "without text"),
    (
        {"text_list": ["a"], "image_info": [info("0.png", 1), info("1.png", -1), info("9.png", 0)]},
        ["wrong index", "wrong index", "missing image"],
        r"image_info\[0\] belongs to sentence 1 of 1; expected 0 to 0",
    ),
    ({"texts": ["a", "b"], "images": [None]}, ["layout"], "2 texts but 1 images"),
    ({"texts": ["a", None, "b"], "images": ["0.png", None, None]}, ["wrong index", "wrong index"], "position 0"),
    ({"text_list": ["a"], "image_info": [info("0.png", 0, None)]}, ["layout"], "no number matched_sim"),
    ({"texts": ["a", None], "images": [None, "https://x.org/1.png"]}, ["missing image"], REMOTE),
    (
        {
            "text_list": ["a"],
            "image_info": [{"raw_url": "https://x.org/1.png", "matched_text_index": 0, "matched_sim": 1}],
        },
        ["missing image"],
        REMOTE,
    ),
    ({"url": "x"}, ["layout"], "neither 'text_list'"),
]


@pytest.mark.parametrize(("record", "kinds", "cause"), BROKEN)
def test_broken_documents(folder: Path, record: dict[str, Any], kinds: list[str], cause: str) -> None:
    config = Interleaved(path=written(folder, MMC4, record), least_similarity=0)
    with pytest.raises(DataError, match=rf"docs\.jsonl, sample '2 \(record 2\)': .*{cause}"):
        config.open()[1]
    found = list(problems("d", config.inspect()))
    assert [(p.place, p.kind) for p in found] == [("line 2", kind) for kind in kinds]


def test_a_missing_picture_may_be_left_out_where_it_is_said(folder: Path) -> None:
    record = {"text_list": ["a", "b"], "image_info": [info("9.png", 0), info("1.png", 1)]}
    path = written(folder, record)
    with pytest.raises(DataError, match=r"9\.png: no such image file"):
        Interleaved(path=path).open()[0]
    assert parts(Interleaved(path=path, missing="leave_out")) == ("a", "1.png", "b")


def row(number: int, **more: Any) -> dict[str, Any]:
    sizes = {"width": 100 * number, "height": 500, "clip_a": 0.1 * number, "clip_b": 0.25}
    return {"id": number, "text": f" caption {number} ", **sizes, **more}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_pairs_are_filtered_by_what_the_list_says(folder: Path, ending: str) -> None:
    rows = [row(0), row(1), row(2), row(3)]
    path = written(folder, *rows, name="coyo.jsonl")
    if ending == "parquet":
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        path = folder / "coyo.parquet"
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    whole = Pairs(path=path, image="{id}.png").open()
    assert [whole[k].answer for k in range(4)] == [f"caption {k}" for k in range(4)]
    assert whole[2].messages == (Message("user", (ImagePart(0),)), Message("assistant", ("caption 2",)))
    assert whole[2].images[0].size() == (8, 10)
    sides = Pairs(path=path, image="{id}.png", least_side=200).open()
    assert [sides[k].id for k in range(len(sides))] == ["2", "3"]
    alike = {"similarity": ("clip_a", "clip_b"), "least_similarity": 0.34}
    near = Pairs(path=path, image="{id}.png", **alike).open()
    assert [near[k].id for k in range(len(near))] == ["1", "2", "3"]
    with pytest.raises(DataError, match="none of 4 rows is left by the filters"):
        Pairs(path=path, image="{id}.png", least_side=600).open()
    with pytest.raises(ConfigError, match="go together"):
        Pairs(path=path, similarity=("clip_a",))


def test_a_caption_is_learned_in_the_plain_form(folder: Path) -> None:
    sample = Pairs(path=written(folder, row(1)), image="{id}.png").open()[0]
    rendered = ChatFormat.parse("plain").render(sample.messages, answer=True)
    assert rendered[1] == ImagePart(0)
    assert [(s.text, s.supervised) for s in rendered if not isinstance(s, ImagePart)] == [
        ("<s>", False), ("caption 1", True), ("\n", True),
    ]  # fmt: skip


def test_broken_pairs(folder: Path) -> None:
    rows = [row(0), row(9), row(1, text="  "), row(1, text=None), row(2, width=None), {"text": "x"}]
    config = Pairs(path=written(folder, *rows), image="{id}.png", least_side=0 + 1)
    found = [(p.place, p.kind) for p in problems("p", config.inspect()) if p.kind != "duplicate id"]
    assert found == [
        ("line 2", "missing image"),
        ("line 3", "no text"),
        ("line 4", "layout"),
        ("line 5", "layout"),
        ("line 6", "layout"),
        ("line 6", "layout"),
    ]
    # The first row has a side of 0 pixels and is filtered away; broken ones stay, to be refused where they are read.
    source = config.open()
    assert len(source) == 5
    with pytest.raises(DataError, match=r"docs\.jsonl, sample '2 \(record 5\)': 'width' is NoneType"):
        source[3]


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, ["Add.\n1 2", "3"]),
        ({"instruction": "Hello?", "input": "", "output": "Hi."}, ["Hello?", "Hi."]),
        ({"inputs": "Who?", "targets": "Me."}, ["Who?", "Me."]),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, ["a", "b"]),
    ],
)
def test_text_only_instructions(folder: Path, record: dict[str, Any], turns: list[str]) -> None:
    sample = LlavaJSON(path=written(folder, record)).open()[0]
    assert [message.text for message in sample.messages] == turns
    assert [message.role for message in sample.messages] == ["user", "assistant"]
    assert sample.images == ()


def test_a_file_is_known_by_its_first_record(folder: Path) -> None:
    kinds = {
        "a.jsonl": ([MMC4], "interleaved"),
        "b.jsonl": ([{"texts": [], "images": []}], "interleaved"),
        "c.jsonl": ([{"image": "0.png", "caption": "x"}], "pairs"),
        "d.jsonl": ([{"conversations": [], "image": "0.png", "text": "x"}], "llava_json"),
    }
    for name, (records, kind) in kinds.items():
        assert guess(written(folder, *records, name=name)).to_dict()["kind"] == kind
