"""Questions are compared without the sentences that ask for a form, before and after format_prompts writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ommatidia.data.curation.curate import Curation, curate
from ommatidia.data.curation.format_prompts import PROMPTS
from ommatidia.data.curation.format_sentences import bare_question, plain

ASKED = "What is the name of the colony shown?"
USUAL = (
    "Answer the question using a single word or phrase.",
    "Answer with the option's letter from the given choices directly.",
    "Please answer yes or no.",
    "Please answer directly with only the letter of the correct option and nothing else.",
    "Give the short answer directly.",
    "Note: You only need to respond with A or B without providing any additional information.",
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "Answer:",
)


@pytest.mark.parametrize("sentence", [*PROMPTS.values(), *USUAL])
def test_a_sentence_about_the_form_does_not_count(sentence: str) -> None:
    bare = plain(ASKED)
    for text in (
        f"{ASKED}\n{sentence}",
        f"{ASKED} {sentence}",
        f"{sentence}\n{ASKED}",
        f"Question: {ASKED}\n{sentence}",
    ):
        assert bare_question(text) == bare, text
    assert bare_question(sentence)  # alone it is what is asked


@pytest.mark.parametrize(
    "question",
    [
        "Which answer is right?", "Answer the phone: who calls?", "Is the letter A or B larger?",
        "How many words does the sign have?", "What short word is on the label?", "The option prices rise. Why?",
    ],
)  # fmt: skip
def test_what_is_asked_stays(question: str) -> None:
    assert bare_question(question) == plain(question)


@settings(max_examples=60)
@given(st.text(max_size=60), st.sampled_from([*PROMPTS.values(), *USUAL]))
def test_a_sentence_behind_changes_nothing(text: str, sentence: str) -> None:
    if plain(text):
        assert bare_question(f"{text}\n{sentence}") == bare_question(text)
    assert bare_question(text) in plain(text) or not plain(text)


def test_sentences_of_ones_own() -> None:
    assert bare_question(f"{ASKED}\nTell it in rhyme!", ["tell it in  RHYME"]) == plain(ASKED)
    assert bare_question(f"{ASKED}\nTell it in rhyme!") != plain(ASKED)


@pytest.mark.parametrize("first", ["decontaminate", "format_prompts"])
@pytest.mark.parametrize("held", [ASKED, f"{ASKED}\n{USUAL[2]}"])
def test_before_and_after_format_prompts(first: str, held: str, tmp_path: Path) -> None:
    def said(question: str) -> str:
        return json.dumps({"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": "Yes"}]})

    (tmp_path / "exam.jsonl").write_text(said(held))
    (tmp_path / "s.jsonl").write_text("\n".join(map(said, (ASKED, f"{ASKED} {USUAL[0]}", "Where is Dominica?"))))
    against = [{"kind": "llava_json", "path": str(tmp_path / "exam.jsonl")}]
    operations = [
        {"kind": "decontaminate", "by": "question", "against": against}, {"kind": "format_prompts", "others": 3},
    ]  # fmt: skip
    if first == "format_prompts":
        operations.reverse()
    config = Curation.parse({"sources": {"s": {"path": str(tmp_path / "s.jsonl")}}, "operations": operations})
    passages = curate(config, tmp_path / "out.jsonl")
    assert sum(passage.dropped.total() for passage in passages) == 2
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
