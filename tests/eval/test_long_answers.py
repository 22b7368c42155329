"""Answers of 100,000 characters, made to keep a regular expression busy: every rule reads them in linear time.

There is no clock here. A rule that takes the square of the length needs 10^10 steps for one of these, and does not end.
"""

from __future__ import annotations

from typing import get_args

import pytest

from ommatidia.eval.scoring import (
    choice_letter,
    contains,
    exact_match,
    gqa_match,
    mathvista_extract,
    mathvista_match,
    mmmu_match,
    mmmu_parse,
    normalize_vqa,
    ocrbench_match,
    read_number,
    realworldqa_match,
    relaxed_accuracy,
    yes_no,
)
from ommatidia.eval.scoring.letters import RULES
from ommatidia.eval.scoring.tokens import ptb_like
from ommatidia.eval.scoring.yes_no import Variant

LENGTH = 100_000
OPTIONS = ("a red cat", "a dog", "two dogs", "3")
UNITS = (
    " ",
    "1",
    "a",
    "A ",
    "(",
    "[",
    "1,",
    "1.",
    "1,111",
    "-",
    "answer is ",
    'The answer is "',
    ".",
    "\n",
    "1e",
    "é",
    "'",
)


@pytest.mark.parametrize("unit", UNITS)
def test_rules_are_linear(unit):
    answer = (unit * LENGTH)[:LENGTH] + "x"
    for variant in ("careful", *RULES):
        choice_letter(answer, OPTIONS, variant=variant)
    for kind in get_args(Variant):
        yes_no(answer, variant=kind)
    for kind in ("integer", "float", "list", "text"):
        mathvista_extract(answer, answer_type=kind, choices=None)
        mathvista_match(answer, "3", answer_type=kind, precision=1)
    mmmu_match(mmmu_parse(answer, None), ["3", "red"])
    mmmu_parse(answer, OPTIONS)
    read_number(answer)
    contains(answer, ["zz", "3 4"])
    exact_match(answer, "3")
    gqa_match(answer, "3")
    ocrbench_match(answer, "zz", dataset="HME100k")
    relaxed_accuracy(answer, "3")
    realworldqa_match(answer, "A")
    normalize_vqa.__wrapped__(answer, variant="textvqa")


@pytest.mark.parametrize("unit", [*UNITS, "<a ", "<!a", "a@", "www.a.", "~", "A-a.", "1/", "&"])
def test_caption_tokens_are_linear(unit):
    assert len(ptb_like((unit * LENGTH)[: LENGTH // 20])) <= LENGTH
