"""The four kinds of error and the nearest name."""

from __future__ import annotations

import pytest

from ommatidia.core.errors import (
    AlignmentError,
    ConfigError,
    DataError,
    OmmatidiaError,
    RunError,
    nearest,
    unknown,
)


def test_every_error_is_ours_and_a_config_error_is_a_value_error() -> None:
    assert all(issubclass(kind, OmmatidiaError) for kind in (AlignmentError, ConfigError, DataError, RunError))
    assert issubclass(ConfigError, ValueError)
    assert not any(issubclass(kind, ValueError) for kind in (AlignmentError, DataError, RunError))


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "broken"),
        ({"source": "charts"}, "charts: broken"),
        ({"sample": "7"}, "sample '7': broken"),
        ({"source": "charts", "sample": "7"}, "charts, sample '7': broken"),
    ],
)
def test_a_data_error_names_its_place(place: dict[str, str], text: str) -> None:
    assert str(DataError("broken", **place)) == text


def test_a_place_is_filled_in_only_where_it_was_unknown() -> None:
    error = DataError("broken", sample="7").at(source="charts", sample="8")
    assert (error.cause, error.source, error.sample) == ("broken", "charts", "7")


def test_the_nearest_name_or_none() -> None:
    assert nearest("efficentnet", ["efficientnet", "convnext"]) == "efficientnet"
    assert nearest("zzz", ["efficientnet"]) is None
    assert nearest("a", []) is None


def test_unknown_lists_few_names_and_not_many() -> None:
    assert (
        unknown("fruit", "aple", ["pear", "apple"]) == "unknown fruit 'aple'; did you mean 'apple'? Valid: apple, pear"
    )
    assert unknown("fruit", "zzz", ["pear", "apple"]) == "unknown fruit 'zzz'. Valid: apple, pear"
    assert unknown("fruit", "zzz", []) == "unknown fruit 'zzz'"
    many = [f"item{i:02d}" for i in range(60)]
    assert unknown("item", "item5", many).endswith("?")
    assert unknown("item", "zzz", many).endswith("item39, ...")
