"""Names: one plain path component, refused where a value is built, and quoted where they are printed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ommatidia.core.console import shell_line
from ommatidia.core.names import LONGEST, check_name, fit_name

GOOD = ["a", "lite0 + craft · channel_concat", "own_data-seed0", "v1.5", "größe", "猫" * 66, "x" * LONGEST, "b (c) [d]"]
BAD = [
    "", "a/b", "../escaped", "..", ".", ".hidden", "-rf", " a", "a ", "a.", "a\\b", "a:b", "a\nb", "a\0b", "a*", 'a"b',
    "x" * (LONGEST + 1), "猫" * 67, "\ud800", "con", "NUL.txt",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_plain_name_is_itself_and_makes_a_file(name: str, tmp_path: Path) -> None:
    assert check_name(name) == fit_name(name) == name
    (tmp_path / f"{name}.bias-corrected.scores.json").touch()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", BAD)
def test_any_other_is_refused_and_can_be_fitted(name: str) -> None:
    with pytest.raises(ValueError, match=r"name .*|device"):
        check_name(name)
    fitted = fit_name(name)
    assert check_name(fitted) == fitted


def test_the_error_says_which_characters_are_wrong_and_which_are_right() -> None:
    with pytest.raises(ValueError, match=r"the name 'a/b:c' has '/' ':'; expected letters, digits, spaces and _ - \."):
        check_name("a/b:c")


def test_long_names_that_differ_are_fitted_to_different_ones() -> None:
    assert fit_name("x" * 200) != fit_name("x" * 201)


def test_what_is_to_be_pasted_is_quoted() -> None:
    words = ["omma", "report", "it's a $name", "--store", "/a b/c"]
    assert shlex.split(shell_line(*words)) == words
