"""What experts found, as prompt text: exact words, where they stand, and every record that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.picture import FilePicture
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import ImagePart
from ommatidia.data.expert_text import ExpertText
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.mixture import MixtureConfig
from ommatidia.data.verbalise import Wording

FOUND: dict[str, Any] = {
    "caption": "A street\n at night.",
    "boxes": [
        {"label": "car", "box": [50, 20, 100, 40], "score": 0.6},
        {"label": "man", "box": [0, 0, 25, 50], "score": 0.9},
        {"label": "dog", "box": [10, 20, 20, 50], "score": 0.3},
    ],
    "ocr": [
        {"text": "STOP", "box": [80, 0, 90, 5], "score": 1},
        {"text": "Bar, Grill", "box": [0, 0, 30, 5], "score": 0.7},
    ],
    "depth": [{"label": "man", "depth": 3.1}, {"label": "car", "depth": 12}],
}


def said(*experts: str, found: dict[str, Any] | None = None, **fields: Any) -> str:
    return Wording(experts=experts, **fields).text(found or FOUND, lambda: (50, 100))


def test_sentences() -> None:
    assert said("caption") == "A street at night."
    assert said("boxes") == (
        "Objects in the picture: [0.50, 0.40, 1.00, 0.80] car, [0.00, 0.00, 0.25, 1.00] man, "
        "[0.10, 0.40, 0.20, 1.00] dog."
    )
    assert said("ocr", "depth") == 'Written in the picture: "STOP", "Bar, Grill". Distances: man 3.10, car 12.00.'
    assert said("boxes", written="thousandths", at_most=1) == "Objects in the picture: [500, 400, 1000, 800] car."


def test_grounded() -> None:
    assert said("ocr", "depth", template="grounded", written="thousandths") == (
        "Words: <ref>STOP</ref><box>(800,0),(900,100)</box> <ref>Bar, Grill</ref><box>(0,0),(300,100)</box>\n"
        "Distances: <ref>man</ref> 3.10 <ref>car</ref> 12.00"
    )


def test_order_and_truncation() -> None:
    def names(**fields: Any) -> list[str]:
        text = said("boxes", template="grounded", **fields)
        return [piece.partition("</ref>")[0] for piece in text.split("<ref>")[1:]]

    assert names() == ["car", "man", "dog"]
    assert names(order="score") == ["man", "car", "dog"]
    assert names(order="reading") == ["man", "dog", "car"]
    assert names(order="score", at_most=2) == ["man", "car"]
    assert names(min_score={"boxes": 0.6}) == ["car", "man"]
    assert names(min_score={"boxes": 0.5}, at_most=1) == ["car"]
    two = len(said("boxes", template="grounded", at_most=2))
    assert names(characters=two) == ["car", "man"]
    assert names(characters=two - 1) == ["car"]
    assert names(characters=5) == []
    assert [said("caption", characters=n) for n in (17, 9, 8, 7, 1)] == [
        "A street at",
        "A street",
        "A street",
        "A",
        "A",
    ]


def test_nothing_found_is_no_words() -> None:
    nothing = {"boxes": [], "ocr": [], "depth": [], "caption": ""}
    assert said("boxes", "caption", "ocr", "depth", found=nothing) == ""
    assert said("ocr", "boxes", found={**FOUND, "ocr": []}, at_most=1).startswith("Objects")


@pytest.mark.parametrize(
    ("fields", "found", "says"),
    [
        ({}, {}, "no field 'boxes'; an expert that found nothing has an empty list"),
        ({}, {"boxes": "car"}, "'boxes' is str; expected a list of findings"),
        ({}, {"boxes": [3]}, r"boxes\[0\] is int; expected an object"),
        ({}, {"boxes": [{"box": [0, 0, 1, 1]}]}, r"boxes\[0\] has None for 'label'; expected a text"),
        ({}, {"boxes": [{"label": "car"}]}, r"boxes\[0\] has no 'box', which this wording needs"),
        (
            {},
            {"boxes": [{"label": "car", "box": [0, 1, 2]}]},
            r"box \[0, 1, 2\]; expected \[left, top, right, bottom\]",
        ),
        ({}, {"boxes": [{"label": "car", "box": [0, 0, 101, 9]}]}, "in pixels is no region of the picture of 100 x 50"),
        ({}, {"boxes": [{"label": "car", "box": [9, 0, 3, 9]}]}, r"box \[9, 0, 3, 9\] in pixels is no region"),
        ({"given": "fractions"}, {"boxes": [{"label": "car", "box": [0, 0, 3, 1]}]}, "in fractions is no region"),
        ({"order": "score"}, {"boxes": [{"label": "car", "box": [0, 0, 1, 1]}]}, "has no 'score'"),
        ({}, {"boxes": [{"label": "car", "box": [0, 0, 1, 1], "score": "high"}]}, "score 'high'; expected a number"),
    ],
)
def test_findings_that_cannot_be_used(fields: dict[str, Any], found: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Wording(experts=("boxes",), **fields).text(found, lambda: (50, 100))


def test_wordings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="names one of them twice"):
        Wording(experts=("ocr", "ocr"))
    with pytest.raises(ConfigError, match="min_score: boxes has no findings"):
        Wording(experts=("ocr",), min_score={"boxes": 0.5})
    with pytest.raises(ConfigError, match="experts"):
        Wording(experts=())


def turn(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


SAMPLES: list[dict[str, Any]] = [
    {"id": "one", "image": "0.png", "conversations": [turn("human", "What is it?"), turn("gpt", "red")]},
    {"id": "behind", "image": "1.png", "conversations": [turn("human", "What is\n<image>"), turn("gpt", "blue")]},
    {
        "id": "both",
        "image": ["0.png", "1.png"],
        "conversations": [
            turn("human", "<image>\n<image>Same?"),
            turn("gpt", "no"),
            turn("human", "Sure?"),
            turn("gpt", "y"),
        ],
    },
    {"id": "words", "conversations": [turn("human", "How are you?"), turn("gpt", "well")]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        Image.new("RGB", (100, 50), (80 * number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    (tmp_path / "data.json").write_text(json.dumps(SAMPLES))
    return tmp_path


def source(folder: Path, lines: list[Any], **fields: Any) -> ExpertText:
    records = folder / "experts.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    records.write_text("\n".join(texts), encoding="utf-8")
    inner = LlavaJSON(path=folder / "data.json", image_root=folder / "pictures")
    fields = {"wording": {"experts": ["caption"]}, "image_root": folder / "pictures"} | fields
    return ExpertText(source=inner, records=records, **fields)


ZERO, ONE = {"image": "0.png", "caption": "Zero."}, {"image": "./1.png", "caption": "One."}


def test_the_words_stand_before_the_question(folder: Path) -> None:
    opened = source(folder, ["", ZERO, ONE]).open()
    assert len(opened) == 4
    first, behind, both, words = (opened[n] for n in range(4))
    assert first.messages[0].parts == (ImagePart(0), "\nZero.", "\n", "What is it?")
    assert behind.messages[0].parts == ("One.\n", "What is\n", ImagePart(0))
    assert both.messages[0].parts == (
        ImagePart(0), "\n", ImagePart(1), "\nPicture 1: Zero.\nPicture 2: One.\n", "Same?"
    )  # fmt: skip
    assert (
        both.messages[1:] == LlavaJSON(path=folder / "data.json", image_root=folder / "pictures").open()[2].messages[1:]
    )
    assert words.messages[0].parts == ("How are you?",)
    assert (first.id, first.answer, first.meta["cluster"]) == ("one", "red", "0.png")


def test_records_by_digest_and_by_sample(folder: Path) -> None:
    digests = [FilePicture(folder / "pictures" / f"{n}.png").digest for n in range(2)]
    by_digest = source(folder, [{"digest": d, "caption": f"{n}."} for n, d in enumerate(digests)], by="digest").open()
    assert by_digest[0].question == "\n0.\nWhat is it?"
    records = [{"id": one["id"], "caption": f"About {one['id']}."} for one in SAMPLES]
    by_id = source(folder, records, by="id").open()
    assert by_id[3].messages[0].parts == ("About words.\n", "How are you?")
    assert by_id[2].messages[0].parts[-2:] == ("\nAbout both.\n", "Same?")


def test_boxes_in_pixels_are_read_by_the_size_of_the_picture(folder: Path) -> None:
    wording = {"experts": ["boxes"], "at_most": 1}
    lines = [{"image": f"{n}.png", "boxes": FOUND["boxes"]} for n in range(2)]
    assert "[0.50, 0.40, 1.00, 0.80] car." in source(folder, lines, wording=wording).open()[0].question
    by_id = source(folder, [{"id": "both", "boxes": FOUND["boxes"]}], wording=wording, by="id").open()
    with pytest.raises(DataError, match="boxes in pixels of 2 pictures; give fractions, or a record a picture"):
        by_id[2]


def test_a_missing_record_is_an_error_or_stated(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"experts.jsonl, sample 'behind': no record for picture 1 .*1\.png.*missing: skip"
    ):
        source(folder, [ZERO]).open()[1]
    tolerant = source(folder, [ZERO], missing="skip").open()
    assert tolerant[1].messages[0].parts == ("What is\n", ImagePart(0))
    assert tolerant[2].messages[0].parts[3] == "\nPicture 1: Zero.\n"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([ZERO, "{oops"], r"experts.jsonl, line 2: not valid JSON \(Expecting property name"),
        ([ZERO, "", "[1]"], "line 3: is list; expected an object"),
        ([{"caption": "x"}], "line 1: 'image' is None; the source wants every record to name its image"),
        ([ZERO, ONE, {"image": "x/../0.png"}], r"lines 1 and 3 are both of image '0\.png'"),
        (["", ""], "no records; expected one JSON object a line"),
    ],
)
def test_files_that_cannot_be_used(folder: Path, lines: list[Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        source(folder, lines).open()


def test_a_finding_that_cannot_be_used_names_line_and_sample(folder: Path) -> None:
    opened = source(folder, ["", ZERO, {"image": "1.png", "caption": 3}]).open()
    with pytest.raises(DataError, match=r"experts\.jsonl, sample 'behind': line 3: 'caption' is int; expected a text"):
        opened[1]


def test_the_fingerprint_follows_both_files_and_the_wording(folder: Path) -> None:
    config = source(folder, [ZERO, ONE])
    before = config.fingerprint()
    assert SourceConfig.parse(config.to_dict()) == config
    assert config.model_copy(update={"missing": "skip"}).fingerprint() != before
    source(folder, [ZERO, {**ONE, "caption": "Two."}])
    changed = config.fingerprint()
    assert changed != before
    assert "Two." in config.open()[1].question
    (folder / "data.json").write_text(json.dumps(SAMPLES[:3]))
    assert config.fingerprint() not in (before, changed)


def test_a_mixture_draws_it_and_lists_its_pictures(folder: Path) -> None:
    mixture = MixtureConfig.parse({"sources": {"mine": {"source": source(folder, [ZERO, ONE]).to_dict()}}}).open()
    assert len(list(mixture.pictures())) == 2
    assert {mixture.draw(position, seed=0).id for position in range(4)} == {"one", "behind", "both", "words"}
