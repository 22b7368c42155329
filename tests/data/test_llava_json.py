"""LLaVA files as people write them, and every way they go wrong."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import ImagePart, Sample
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.mixture import MixtureConfig, Weighted


def turn(speaker: str, value: Any) -> dict[str, Any]:
    return {"from": speaker, "value": value}


def record(number: int, question: str = "<image>\nWhat is it?", image: Any = "0.png", **more: Any) -> dict[str, Any]:
    one = {"id": f"r{number}", "conversations": [turn("human", question), turn("gpt", f"answer {number}")], **more}
    return one if image is None else {**one, "image": image}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        Image.new("RGB", (8 + number, 8), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def written(folder: Path, records: list[Any], name: str = "data.json", **options: Any) -> LlavaJSON:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records), encoding="utf-8")
    else:
        path.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
    return LlavaJSON(path=path, **options)


def first(folder: Path, one: dict[str, Any], **options: Any) -> Sample:
    return written(folder, [one], **options).open()[0]


def refusal(folder: Path, one: Any) -> str:
    with pytest.raises(DataError) as caught:
        written(folder, [record(0), one]).open()[1]
    text = str(caught.value)
    assert "data.json" in text
    assert "record 2" in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
def test_json_and_jsonl_read_alike(folder: Path, name: str) -> None:
    records = [record(k, f'<image>\nWie groß? 你好 “{k}” [1, {{2}}] \\ "', f"{k % 3}.png") for k in range(20)]
    source = written(folder, records, name).open()
    assert len(source) == 20
    for index in (19, 0, 7):
        sample = source[index]
        assert sample.id == f"r{index}"
        assert sample.messages[0].parts == (ImagePart(0), f'\nWie groß? 你好 “{index}” [1, {{2}}] \\ "')
        assert sample.answer == f"answer {index}"
        assert sample.images[0].open().size == (8 + index % 3, 8)
        assert sample.meta == {"group": "general", "task": "data", "cluster": f"{index % 3}.png"}
    with pytest.raises(IndexError):
        source[20]


def test_layouts_of_json_lists(folder: Path) -> None:
    records = [record(k) for k in range(3)]
    path = folder / "x.json"
    for text in (
        json.dumps(records),
        "\ufeff \n" + json.dumps(records, indent=4),
        "[" + " , \n ".join(json.dumps(one, indent=2) for one in records) + " ]\n\n",
    ):
        path.write_text(text, encoding="utf-8")
        assert [LlavaJSON(path=path).open()[k].id for k in range(3)] == ["r0", "r1", "r2"]


def test_jsonl_with_blank_lines_and_no_last_newline(folder: Path) -> None:
    path = folder / "x.jsonl"
    path.write_text("\ufeff" + json.dumps(record(0)) + "\r\n\n  \n" + json.dumps(record(1)), encoding="utf-8")
    source = LlavaJSON(path=path).open()
    assert [source[k].id for k in range(len(source))] == ["r0", "r1"]


def test_several_images_and_turns(folder: Path) -> None:
    one = {
        "id": 7,
        "image": ["0.png", "1.png", "2.png"],
        "conversations": [
            turn("system", "Be short."),
            turn("human", "First <image> then <image>."),
            turn("gpt", "I see <image> tags."),
            turn("human", "And\n<image>"),
            turn("gpt", "Red."),
        ],
    }
    sample = first(folder, one)
    assert sample.id == "7"
    assert [message.role for message in sample.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert sample.messages[1].parts == ("First ", ImagePart(0), " then ", ImagePart(1), ".")
    assert sample.messages[2].parts == ("I see <image> tags.",)
    assert sample.messages[3].parts == ("And\n", ImagePart(2))
    assert [picture.open().width for picture in sample.images] == [8, 9, 10]


def test_one_image_without_a_placeholder_comes_first(folder: Path) -> None:
    sample = first(folder, record(0, "What is it?"))
    assert sample.messages[0].parts == (ImagePart(0), "\n", "What is it?")


@pytest.mark.parametrize("image", [None, "", []])
def test_text_only(folder: Path, image: Any) -> None:
    sample = first(folder, record(0, "Hello?", image))
    assert sample.images == ()
    assert sample.messages[0].parts == ("Hello?",)
    assert sample.meta["cluster"] == "r0"


def test_openai_messages(folder: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4)).save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "text", "text": "Compare with"},
        {"type": "image", "image": "1.png"},
    ]
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": "Same."}]},
    ]
    sample = first(folder, {"messages": messages})
    assert sample.id == "1"
    assert sample.messages[0].parts == (ImagePart(0), "Compare with", ImagePart(1))
    assert [picture.open().width for picture in sample.images] == [5, 9]
    assert sample.answer == "Same."


def test_sharegpt_with_images_beside_messages(folder: Path) -> None:
    messages = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "That."}]
    assert first(folder, {"messages": messages, "images": ["2.png"]}).images[0].open().width == 10
    listed = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    assert first(folder, {"messages": listed, "images": ["2.png"]}).images[0].open().width == 10


def test_image_root_and_names(folder: Path) -> None:
    (folder / "lists").mkdir()
    config = written(
        folder / "lists", [record(0, options=["a", "b"])], image_root=folder, group="knowledge", task="mine"
    )
    sample = config.open()[0]
    assert sample.images[0].open().width == 8
    assert sample.meta == {"group": "knowledge", "task": "mine", "cluster": "0.png", "options": ["a", "b"]}


def test_limit(folder: Path) -> None:
    assert len(written(folder, [record(k) for k in range(9)], limit=4).open()) == 4


# Splits


def ids(config: LlavaJSON) -> list[str]:
    source = config.open()
    return [source[index].id for index in range(len(source))]


def test_held_out_pictures_are_never_trained_on(folder: Path) -> None:
    for number in range(100):
        Image.new("RGB", (4, 4), (2 * number, 0, 0)).save(folder / f"{number}.png")
    records = [record(k, image=f"{'./' if k % 2 else ''}{k % 100}.png") for k in range(400)]
    config = written(folder, records, holdout=0.2)
    train, held = (config.model_copy(update={"split": split}) for split in ("train", "held_out"))
    clusters = [{source[k].meta["cluster"] for k in range(len(source))} for source in (train.open(), held.open())]
    assert not clusters[0] & clusters[1]
    assert len(clusters[0] | clusters[1]) == 100
    assert 8 <= len(clusters[1]) <= 32
    assert sorted(ids(train) + ids(held)) == sorted(ids(config))
    assert ids(train) == ids(train)
    # The order of the file does not matter, nor do records added later.
    shuffled = written(
        folder, [*reversed(records), record(999, "Hello?", None)], "again.jsonl", split="held_out", holdout=0.2
    )
    assert set(ids(held)) <= set(ids(shuffled))


def test_records_that_share_pictures_stay_together(folder: Path) -> None:
    chain = [record(k, "<image> <image>", [f"{k}.png", f"{k + 1}.png"]) for k in range(40)]
    for number in range(41):
        Image.new("RGB", (4, 4 + number)).save(folder / f"{number}.png")
    config = written(folder, chain, holdout=0.5)
    train, held = (config.model_copy(update={"split": split}) for split in ("train", "held_out"))
    full, empty = (train, held) if _opens(train) else (held, train)
    assert len(full.open()) == 40
    with pytest.raises(DataError, match="no record of 40 falls into split"):
        empty.open()


def _opens(config: LlavaJSON) -> bool:
    try:
        config.open()
    except DataError:
        return False
    return True


def test_text_records_split_by_id(folder: Path) -> None:
    config = written(folder, [record(k, "Hello?", None) for k in range(300)])
    held = ids(config.model_copy(update={"split": "held_out"}))
    assert 10 <= len(held) <= 60


# Refusals


def test_missing_image_names_record_and_path(folder: Path) -> None:
    text = refusal(folder, record(9, image="sub/gone.jpg"))
    assert "r9 (record 2)" in text
    assert "sub/gone.jpg: no such image file" in text


@pytest.mark.parametrize(
    ("question", "image", "both"),
    [
        ("<image><image> What?", "0.png", "2 <image> placeholder(s) in the text but 1 image(s)"),
        ("<image> What?", ["0.png", "1.png"], "1 <image> placeholder(s) in the text but 2 image(s)"),
        ("What?", ["0.png", "1.png"], "0 <image> placeholder(s) in the text but 2 image(s)"),
        ("<image> What?", None, "1 <image> placeholder(s) in the text but 0 image(s)"),
    ],
)
def test_counts_that_differ(folder: Path, question: str, image: Any, both: str) -> None:
    assert both in refusal(folder, record(1, question, image))


@pytest.mark.parametrize(
    ("one", "cause"),
    [
        ({"id": "a", "text": "hi"}, "neither 'conversations' nor 'messages'; it has the fields 'id', 'text'"),
        ({"conversations": []}, "'conversations' is empty; expected a list of turns"),
        ({"conversations": "hi"}, "'conversations' is str; expected a list of turns"),
        ({"conversations": [turn("alien", "hi")]}, "conversations[0] is spoken by 'alien'; expected one of human"),
        ({"conversations": [turn("human", None)]}, "conversations[0] has NoneType for a text"),
        ({"conversations": ["hi"]}, "conversations[0] is str; expected a turn"),
        ({"conversations": [turn("gpt", "hi")]}, "has no user turn"),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            "content[0] is of type 'audio', which is not read",
        ),
        (record(1, image="https://example.org/a.png"), "a remote image; download it"),
        (record(1, image=3), "an image is int; expected a path"),
        (record(1, image="data:image/png;base64,%%"), "not valid base64"),
        (record(1, images=["1.png"]), "has both 'image' and 'images'"),
        ([1, 2], "is list; expected an object"),
    ],
)
def test_records_of_another_shape(folder: Path, one: Any, cause: str) -> None:
    assert cause in refusal(folder, one)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no records"),
        ("\n\n", "no records"),
        ("[]", "no records"),
        ("hello\n", "record 1.*: not valid JSON"),
        ('{"a": ', "record 1.*: not valid JSON"),
        ('[\n{"a": 1},\n{"a": }\n]', "line 3: not valid JSON"),
        ('[{"a": 1}', "not valid JSON"),
        ('"words"', "is str; expected an object"),
    ],
)
def test_files_that_are_no_data_set(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"bad\.json.*{cause}"):
        LlavaJSON(path=path).open()


def test_binary_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(b"\x89PNG\xff\xfe" * 20)
    with pytest.raises(DataError, match=r"bad\.json.*not"):
        LlavaJSON(path=path).open()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        LlavaJSON(path=tmp_path / "gone.json").open()


def test_a_broken_line_is_met_where_it_is_counted(folder: Path) -> None:
    path = folder / "x.jsonl"
    path.write_text("\n".join([json.dumps(record(0)), "{broken", json.dumps(record(2))]))
    source = LlavaJSON(path=path).open()
    assert len(source) == 3
    assert source[2].id == "r2"
    with pytest.raises(DataError, match=r"x\.jsonl, sample 'record 2': not valid JSON"):
        source[1]
    with pytest.raises(DataError, match="record 2"):
        list(MixtureConfig(sources={"a": Weighted(source=LlavaJSON(path=path))}).open().pictures())


def test_fingerprint_follows_content(folder: Path) -> None:
    config = written(folder, [record(0)])
    before = config.fingerprint()
    assert before == config.fingerprint()
    written(folder, [record(0), record(1)])
    assert config.fingerprint() != before
    assert len(config.open()) == 2  # and the index is that of the new content
    assert config.fingerprint() != config.model_copy(update={"split": "train"}).fingerprint()


def test_bad_fields(tmp_path: Path) -> None:
    for given in ({"holdout": 0}, {"split": "val"}, {"limit": 0}):
        with pytest.raises(ConfigError, match=next(iter(given))):
            LlavaJSON(path=tmp_path / "x", **given)


def test_a_split_counts_by_its_own_records(folder: Path) -> None:
    records = [record(number, image=f"{number}.png") for number in range(40)]
    for number in range(40):
        (folder / f"{number}.png").write_bytes(b"%d" % number)

    def prints() -> dict[str, str]:
        whole = written(folder, records)
        parts = [whole.model_copy(update=one) for one in ({}, {"split": "train"}, {"split": "held_out"}, {"limit": 5})]
        return dict(zip(("all", "train", "held_out", "first"), (part.fingerprint() for part in parts), strict=True))

    held_out = written(folder, records, split="held_out").open()
    words, image = (int(held_out[n].id[1:]) for n in (-2 % len(held_out), -1 % len(held_out)))
    assert min(words, image) >= 5
    assert words != image
    before = prints()
    assert len(set(before.values())) == 4
    records[words]["conversations"][1]["value"] = "mended"
    mended = prints()
    assert {name for name in before if mended[name] != before[name]} == {"all", "held_out"}
    (folder / f"{image}.png").write_bytes(b"repainted")
    assert {name for name in before if prints()[name] != mended[name]} == {"all", "held_out"}


def test_a_record_without_an_id_counts_with_its_place(folder: Path) -> None:
    records = [{"conversations": record(n)["conversations"], "image": "0.png"} for n in (1, 1, 2)]
    first = written(folder, records, limit=2).fingerprint()
    assert first == written(folder, records[:2], name="data.json", limit=2).fingerprint()
    assert first != written(folder, [records[0], records[2]], limit=2).fingerprint()


def test_image_parts_say_which_image_they_are(folder: Path) -> None:
    def placed(*indices: object) -> list[str]:
        content = [{"type": "image", "index": index} for index in indices]
        turns = [{"role": "user", "content": [*content, {"type": "text", "text": "?"}]}]
        found = first(folder, {"images": ["0.png", "1.png"], "messages": turns})
        assert [part.index for part in found.messages[0].parts[:-1]] == list(range(len(indices)))
        return [image.path.name for image in found.images]

    assert placed(1, 0) == ["1.png", "0.png"]
    assert placed(1, 0, 1) == ["1.png", "0.png", "1.png"]
    assert placed(None, None) == ["0.png", "1.png"]
    for wrong, cause in (
        ((0, 2), "the index 2"),
        ((0, None), "some have none"),
        ((0,), "the index 1"),
        (("1",), "'1'"),
    ):
        with pytest.raises(DataError, match=cause):
            placed(*wrong)
