"""YAML 1.2: a value is what it looks like, and what cannot be meant is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ommatidia.core.config import Config, override, read_assignment, read_assignments
from ommatidia.core.errors import ConfigError
from ommatidia.core.plain_data import read_plain, write_plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0300", 300), ("5:00", "5:00"), ("1_000", "1_000"), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"),
        ("y", "y"), ("true", True), ("False", False), ("tRUE", "tRUE"), ("1e-3", 0.001), ("1e3", 1000.0), (".5", 0.5),
        ("5.", 5.0), ("-2", -2), ("+2", 2), ("0o17", 15), ("0x1F", 31), ("0b11", "0b11"), ("~", None), ("", None),
        ("null", None), ("2024-01-01", "2024-01-01"), ("1.2.3", "1.2.3"), ("=", "="), ("{a: 0300}", {"a": 300}),
        ("- 1\n- [2, 3]", [1, [2, 3]]), ('{"a": "0300"}', {"a": "0300"}), ('"\\ud83d\\ude00"', "\U0001f600"),
        ("a: &x {b: 1}\nc: {<<: *x}", {"a": {"b": 1}, "c": {"b": 1}}),
    ],
)  # fmt: skip
def test_values_are_what_they_look_like(text, value):
    found = read_plain(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands in line 1 already"),
        ('{"a": {"b": 1, "b": 2}}', "line 1: the key 'b' stands"),
        (".nan", "finite"), ("[.inf]", "finite"), ("1e999", "finite"), ("9" * 5000, "no number that is meant"),
        ("[" * 200 + "]" * 200, "inside one another"), ("[" * 900, "inside one another"),
        ("a: &a [*a]", "holds itself"), ('"\\ud83d"', "half a surrogate pair"),
        ("&a a: 1\n? [1]\n: 2", "key"), ("!!python/object:os.system x", "constructor"), ("a: [1", "expected"),
        ("!!int x", "no number"), ("!!float x", "finite"), ("{a: 1}\n---\n{b: 1}", "document"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(text, wrong):
    with pytest.raises(ValueError, match=wrong) as caught:
        read_plain(text)
    assert "\n" not in str(caught.value)


def test_repeated_anchors_do_not_explode():
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10))
    with pytest.raises(ValueError, match="more than 1,000,000 values"):
        read_plain(f"l0: &l0 [{', '.join('1' * 10)}]\n{levels}")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))
    | st.sampled_from(["0300", "5:00", "1e-3", "yes", "0o17", "089", ".5", "~", "true", "<<", "1_0", "0x1", "-"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc019.:-", max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN)
def test_what_is_written_is_read_again(data):
    assert read_plain(write_plain(data)) == data
    assert read_plain(json.dumps(data)) == data


@given(st.text(max_size=60))
def test_any_text_is_data_or_one_line(text):
    said = ""
    try:
        read_plain(text)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said


def test_strings_that_other_readers_take_for_numbers_are_quoted():
    for text in ("0300", "5:00", "yes", "1e-3", "0o17", "089", "1_000"):
        assert yaml.safe_load(write_plain({"a": text})) == {"a": text}


class Values(Config):
    number: int = 1
    share: float = 0.5
    switch: bool = False
    either: int | str = 1
    several: tuple[int, ...] = ()
    rates: Mapping[str, float] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number", True), ("number", "3"), ("number", 3.0), ("number", None), ("number", 10**12), ("share", True),
        ("share", "0.5"), ("share", 1e12), ("share", float("nan")), ("switch", 1), ("switch", "true"), ("switch", 0.0),
        ("either", True), ("either", 1.0), ("several", [1, True]), ("several", ["1"]), ("rates", {"a": True}),
        ("rates", {"a": "1e-3"}), ("rates", {1: 0.5}),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field}"):
        Values.parse({field: value})


def test_an_integer_may_stand_for_a_float_and_a_text_for_itself():
    assert Values(share=1, either="1").to_dict()["either"] == "1"
    assert Values(share=1).share == 1.0


def test_assignments_are_read_alike_and_given_once():
    assert read_assignment("a.b=0300") == ("a.b", 300)
    assert read_assignment("when=5:00") == ("when", "5:00")
    with pytest.raises(ConfigError, match=r"not valid YAML: .*finite"):
        read_assignment("rate=.nan")
    with pytest.raises(ConfigError, match="seed is given twice: 'seed=1' and 'seed=2'"):
        read_assignments(["seed=1", "seed=2"])
    for step in ("²", "--1", "1" * 20):
        with pytest.raises(ConfigError, match="no position"):
            override(Values(several=(1, 2)), f"several.{step}", 3)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ConfigError, match=r"5,002 characters") as caught:
        Values.parse({"number": "x" * 5000})
    assert len(str(caught.value)) < 300
