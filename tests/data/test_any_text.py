"""Whatever a record holds, reading it gives a sample or a DataError with its place; checking it ends in no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ommatidia.core.errors import DataError
from ommatidia.core.image_file import image_file
from ommatidia.core.json_text import parse_json
from ommatidia.core.source import SourceConfig
from ommatidia.data.check import Problem, problems
from ommatidia.models.language.scratch import ScratchLanguage

ANY_TEXT = st.text(st.characters(codec=None), max_size=12)  # lone surrogates and control characters too
LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(min_value=10**20, max_value=10**30), st.floats(), ANY_TEXT,
    st.sampled_from(["<image>", "human", "gpt", "a" * 5000, "a\0b", "..", "/", "", "\ud83d", "data:image/png,é"]),
)  # fmt: skip
VALUE = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ANY_TEXT, inner, max_size=3)),
    max_leaves=6,
)
TURN = st.one_of(VALUE, st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "x"]), "value": LEAF}))
RECORD = st.one_of(
    VALUE,
    st.fixed_dictionaries(
        {"conversations": st.one_of(VALUE, st.lists(TURN, max_size=4))},
        optional={"id": VALUE, "image": VALUE, "history": VALUE, "system": VALUE, "video": VALUE, "tools": VALUE},
    ),
    st.fixed_dictionaries({"messages": st.lists(TURN, max_size=4)}, optional={"id": VALUE, "images": VALUE}),
)


def seen(config: SourceConfig) -> Iterator[Problem | DataError]:
    """Everything that is wrong, as check tells it and as reading does."""
    try:
        yield from problems("x", config.inspect(), threads=1)
        source = config.open()
    except DataError as error:
        yield error
        return
    for index in range(len(source)):
        try:
            sample = source[index]
        except DataError as error:
            yield error
            continue
        assert (sample.id + "".join(message.text for message in sample.messages)).encode()


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(records=st.lists(RECORD, min_size=1, max_size=3), ascii=st.booleans(), lines=st.booleans())
def test_records_of_dialogues(tmp_path: Path, records: list[Any], ascii: bool, lines: bool) -> None:
    text = "\n".join(json.dumps(record) for record in records) if lines else json.dumps(records, ensure_ascii=ascii)
    path = tmp_path / "any.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for found in seen(SourceConfig.parse({"kind": "llava_json", "path": str(path)})):
        assert str(found).encode(), "an error can be printed"


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(records=st.lists(VALUE, min_size=1, max_size=3), kind=st.sampled_from(["interleaved", "pairs"]))
def test_documents_and_pairs(tmp_path: Path, records: list[Any], kind: str) -> None:
    wrapped = [{"texts": one, "images": one, "image": one, "caption": one, "id": one} for one in records]
    path = tmp_path / "any.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in wrapped))
    for found in seen(SourceConfig.parse({"kind": kind, "path": str(path)})):
        assert str(found).encode(), "an error can be printed"


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_records(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.json"
    path.write_bytes(data)
    for found in seen(SourceConfig.parse({"kind": "llava_json", "path": str(path)})):
        assert str(found).encode(), "an error can be printed"


TURNS = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "x"}]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (json.dumps({"id": "a\ud83d", "conversations": TURNS}), r"half a character \(\\ud83d, a lone surrogate\)"),
        (json.dumps({"id": "a", "conversations": [{"from": "human", "value": "hi \ud83d"}]}), "half a character"),
        ('{"id": ' + "9" * 5000 + "}", "a number of more than 4,300 digits"),
        ('{"id": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_what_is_wrong_is_said(tmp_path: Path, record: str, says: str, form: str) -> None:
    path = tmp_path / "any.json"
    path.write_text(form.replace("{}", record))
    found = list(seen(SourceConfig.parse({"kind": "llava_json", "path": str(path)})))
    assert found
    for one in found:
        with pytest.raises(DataError, match=says):
            raise one if isinstance(one, DataError) else DataError(str(one))


def test_a_name_that_is_no_file(tmp_path: Path) -> None:
    for name, says in (
        ("A" * 5000, r"AAA\.\.\. \(5000 characters\): looks like base64: write data:image/\.\.\.;base64, before it"),
        ("What is this? " * 60, "no image file can have this name"),
        ("a\0b.png", r"a\\x00b\.png: no such image file"),
        ("a\ud83d.png", r"a\\ud83d\.png: no (such )?image file"),
        ("none.png", r"none\.png: no such image file"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            image_file(tmp_path, name)
        assert len(str(caught.value).encode()) < 600


def test_half_a_character_does_not_reach_a_tokenizer() -> None:
    tokenizer = ScratchLanguage().tokenizer()
    assert tokenizer.encode("a 😀 b", special=False)
    with pytest.raises(DataError, match=r"half a character \(\\ud83d, a lone surrogate\) behind 'hi '"):
        tokenizer.encode("hi \ud83d", special=False)


@pytest.mark.parametrize("text", ['"\\ud83d\\ude00"', '"😀"', '"\\\\ud83d"', '"í"'])
def test_whole_characters_are_none_of_it(text: str) -> None:
    assert parse_json(text.encode()) == json.loads(text)
