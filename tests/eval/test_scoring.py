"""Every scorer on its documented edge cases."""

from __future__ import annotations

from importlib import import_module

import pytest
from eval_toys import sample_of

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import Message, Sample
from ommatidia.eval.scoring import (
    ScorerConfig,
    YesNoScorer,
    anls,
    choice_letter,
    contains,
    edit_distance,
    exact_match,
    normalize_short,
    number_match,
    read_number,
    references_of,
    relaxed_accuracy,
    yes_no,
)

anls_module = import_module("ommatidia.eval.scoring.anls")


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("Red.", "red", True),
        ("  a  big\tdog ", "A big dog", True),
        ("yes!", "Yes", True),
        ("t-shirt", "tshirt", False),
        ("3.5", "3.5", True),
        ("35", "3.5", False),
        ("", "", False),
        ("?", "!", False),
        ("?", "?", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("redd", "red", False),
    ],
)
def test_exact(answer, reference, same):
    assert exact_match(answer, reference) is same


def test_exact_takes_any_reference():
    assert exact_match("two", ["2", "two"])
    assert not exact_match("two", [])
    assert normalize_short(" A. ") == "a"


@pytest.mark.parametrize(
    ("answer", "mme", "word", "exact"),
    [
        ("Yes", "yes", "yes", "yes"),
        (" no ", "no", "no", "no"),
        ("Yes.", "yes", "yes", None),
        ("Y", "yes", None, None),
        ("n", "no", None, None),
        ("No, there is no dog.", "no", "no", None),
        ("Yes, there is no dog", "yes", None, None),
        ("I think yes", None, "yes", None),
        ("nothing", "no", None, None),
        ("", None, None, None),
        ("maybe", None, None, None),
    ],
)
def test_yes_no(answer, mme, word, exact):
    assert yes_no(answer) == mme
    assert yes_no(answer, variant="word") == word
    assert yes_no(answer, variant="exact") == exact


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("three", 3), ("There are 3 cats.", 3), ("1,234.5", 1234.5), ("-4", -4), ("\u22124", -4), ("$5", 5),
        (".5", 0.5), ("3.", 3), ("1e3", 1000), ("none", 0), ("twenty", 20), ("3 of 3", 3), ("5cm", 5), ("50%", 50),
        ("3 or 4", None), ("", None), ("many", None), ("B2", None), ("1.2.3", None), ("1,00,000", None),
        ("one or two", None), ("1e999", None),
    ],
)  # fmt: skip
def test_read_number(text, value):
    assert read_number(text) == value


def test_number_match():
    assert number_match("there are three", "3")
    assert number_match("0.1", "0.1")
    assert not number_match("4", "3")
    assert not number_match("", "0")
    assert number_match("104", "100", tolerance=0.05)
    assert not number_match("106", "100", tolerance=0.05)
    with pytest.raises(DataError, match="expected one number"):
        number_match("3", "many")


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        ("105", "100", True),
        ("105.1", "100", False),
        ("95", "100", True),
        ("-95", "-100", True),
        ("50%", "0.5", True),
        ("50", "50%", False),
        ("2019", "2018", True),
        ("977,633", "977633", False),
        ("$5", "5", False),
        ("0.0", "0", False),
        ("0", "0", True),
        ("Blue", "blue", True),
        ("blue.", "blue", False),
        (" 7 ", "7", True),
        ("5 million", "5000000", False),
        ("nan", "3", False),
        ("", "3", False),
    ],
)
def test_relaxed(answer, target, right):
    assert relaxed_accuracy(answer, target) is right


OPTIONS = ("a red cat", "a dog", "two dogs", "nothing")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("(b).", "B"), ("**C**", "C"), ("B. a dog", "B"),
        ("b) a dog", "B"), ("B because it barks", "B"), ("The answer is C.", "C"), ("Answer: D", "D"),
        ("the answer is: (A)", "A"), ("I think it is C", "C"), ("It must be (C), surely", "C"),
        ("a dog", "B"), ("A dog.", "B"), ("The image shows two dogs", "C"), ("E", ""), ("", ""), ("A or B", ""),
        ("I do not know", ""), ("A horse is in the image", ""), ("not sure at all", ""),
        ("The answer is A", "A"), ("option A", "A"),
        ("The answer is a dog", "B"), ("U.S.A", ""), ("A closer look says B", "B"),
    ],
)  # fmt: skip
def test_choice(answer, letter):
    assert choice_letter(answer, OPTIONS) == letter


def test_choice_takes_lettered_options():
    assert choice_letter("no", {"A": "yes", "B": "no"}) == "B"
    assert choice_letter("anything", ()) == ""
    assert choice_letter("same", ("same", "same")) == ""


def test_anls():
    assert anls("hello", ["hello"]) == 1.0
    assert anls(" Hello  World", ["hello world"], variant="paper") == 1.0
    assert anls("hello", ["world", "hallo"]) == pytest.approx(0.8)
    assert anls("ab", ["ac"]) == 0.5  # kept at exactly the threshold ...
    assert anls("ab", ["ac"], variant="paper") == 0.0  # ... but not in the metric's paper
    assert anls("abc", ["xyz"]) == 0.0
    assert anls("ab", ["ac"], threshold=0.6) == 0.0
    assert anls("", [""]) == 1.0
    assert anls("", ["a"]) == 0.0
    assert anls("hello.", ["hello"]) == pytest.approx(5 / 6)  # punctuation costs
    assert anls("a  b", ["a b"]) == 1.0  # no edit is left, whatever the length
    assert anls("a  c", ["a b"]) == pytest.approx(0.75)  # 1 edit over the raw length 4
    assert anls("a  c", ["a b"], variant="paper") == pytest.approx(2 / 3)
    with pytest.raises(DataError):
        anls("a", [])


def test_edit_distance():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("flaw", "lawn") == 2


def test_contains():
    assert contains("It says\nSTOP here", "stop")
    assert contains("one\ntwo", ["x", "one two"])
    assert not contains("anything", ["", " "])
    assert not contains("", "stop")


@pytest.mark.parametrize(
    ("answer", "reference", "holds"),
    [
        ("nothing", "no", False), ("No, none", "no", True), ("no-one", "no", True), ("category", "cat", False),
        ("15", "5", False), ("1.5 m", "5", False), ("5.", "5", True), ("1,500", "500", False), ("5%", "5", True),
        ("a_b", "b", False), ("(cat)", "cat", True), ("Caf\u00e9 de", "cafe\u0301", True), ("STRASSE", "straße", True),
        ("\uff13\uff14", "34", True), ("t\u2010shirt", "T-shirt", True), ("it\u2019s", "it's", True),
        ("これは猫です", "猫", True), ("two\u00a0\ndogs", "two dogs", True), ("cat category", "category", True),
    ],
)  # fmt: skip
def test_contains_states_its_borders_and_unicode_forms(answer, reference, holds):
    assert contains(answer, reference) is holds


def test_anls_states_its_unicode_form():
    assert anls("cafe\u0301", ["caf\u00e9"]) == 1.0  # the same text in another form
    assert anls("cafe", ["caf\u00e9"]) == 0.75  # an accent is a character
    assert anls("t\u2010shirt", ["t-shirt"]) == pytest.approx(6 / 7)  # and so is a hyphen
    assert anls("\uff13", ["3"]) == 0.0


def test_a_long_answer_costs_no_more_than_its_length(monkeypatch):
    """Edit distances are only worked out where they can pass the threshold: steps of a table, counted."""
    cells = []
    real = anls_module.edit_distance
    monkeypatch.setattr(anls_module, "edit_distance", lambda a, b: cells.append(len(a) * len(b)) or real(a, b))
    for answer in ("a" * 100_000, "stop " * 20_000, "stop sign", "stop sign here"):
        anls(answer, ["stop sign", "a red sign"])
    assert sum(cells) <= 2 * 2 * (10 * 20)


@pytest.mark.parametrize(
    ("kind", "reference", "right", "wrong"),
    [
        ("exact", "red", "Red.", "blue"),
        ("contains", "red", "it is red", "blue"),
        ("number", "3", "three", "4"),
        ("yes_no", "Yes", "yes, it is", "no"),
        ("relaxed", "100", "103", "110"),
        ("anls", "hello", "hello", "zzz"),
    ],
)
def test_scorer_kinds(kind, reference, right, wrong):
    scorer = ScorerConfig.parse(kind)
    sample = sample_of(1, answer=reference)
    assert scorer.score(sample, right) == 1.0
    assert scorer.score(sample, wrong) == 0.0
    assert scorer.score(sample, "") == 0.0
    assert ScorerConfig.parse(scorer.to_dict()) == scorer


def test_choice_scorer():
    scorer = ScorerConfig.parse("choice")
    by_text = sample_of(1, answer="a dog", options=list(OPTIONS))
    by_letter = sample_of(1, answer="(B)", options=list(OPTIONS))
    for sample in (by_text, by_letter):
        assert scorer.score(sample, "b") == 1.0
        assert scorer.score(sample, "C") == 0.0
        assert scorer.parsed(sample, "no idea") is None
    with pytest.raises(DataError, match="options"):
        scorer.score(sample_of(1), "b")
    with pytest.raises(DataError, match="none of the options"):
        scorer.score(sample_of(1, answer="a horse", options=list(OPTIONS)), "b")


def test_a_reference_is_needed():
    question = (Message("user", ("Why?",)),)
    assert references_of(Sample("s", question, meta={"references": ["a", " ", "b"]})) == ("a", "b")
    assert references_of(sample_of(4)) == ("4",)
    history = (Message("user", ("Hi",)), Message("assistant", ("Hello",)), *question)
    for sample in (Sample("s", question), sample_of(1, answer=" "), Sample("s", history)):
        with pytest.raises(DataError, match="no reference answer"):
            references_of(sample)
    with pytest.raises(DataError, match="expected yes or no"):
        YesNoScorer().score(sample_of(1, answer="perhaps"), "yes")


def test_the_version_is_in_the_digest(monkeypatch):
    before = YesNoScorer().digest()
    monkeypatch.setattr(YesNoScorer, "version", 2)
    assert YesNoScorer().digest() != before


def test_an_unknown_scorer_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'relaxed'"):
        ScorerConfig.parse("relax")
