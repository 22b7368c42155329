"""The packaged dialogues: text alone, whole, and nothing of what measures text ability."""

from __future__ import annotations

import re

import pytest

from ommatidia.core.errors import ConfigError
from ommatidia.core.types import ImagePart
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.mixture import MixtureConfig
from ommatidia.data.plain_questions import PlainQuestions

TALK = LlavaJSON(package="ommatidia.data", path="plain_talk.jsonl")
FRAME = frozenset(["a", "an", "the", "of", "is", "are", "do", "does", "in", "to", "for", "with", "you", "me", "my"])
ASKING = frozenset(["what", "which", "who", "how", "why", "where", "when"])


def subjects(question: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", question.lower())) - FRAME - ASKING


def test_a_few_hundred_dialogues_without_pictures():
    source = TALK.open()
    samples = [source[index] for index in range(len(source))]
    assert len(samples) >= 200
    assert len({sample.messages[0].text for sample in samples}) == len(samples)
    assert TALK.file().stat().st_size < 300_000
    for sample in samples:
        assert not sample.images
        assert [m.role for m in sample.messages] == ["user", "assistant"] * (len(sample.messages) // 2)
        assert all(m.text.strip() and not any(isinstance(p, ImagePart) for p in m.parts) for m in sample.messages)
    assert any(len(sample.messages) > 2 for sample in samples)


def test_no_question_is_about_what_the_plain_questions_ask():
    asked = [PlainQuestions().open()[index].messages[0].text for index in range(len(PlainQuestions().open()))]
    talk = TALK.open()
    said = [m.text for index in range(len(talk)) for m in talk[index].messages if m.role == "user"]
    shared = {(a, b) for a in asked for b in said if len(subjects(a) & subjects(b)) > 1}
    assert not shared
    assert not set(asked) & set(said)


def test_a_packaged_file_is_known_by_its_package_and_content():
    data = {"sources": {"talk": {"source": TALK.to_dict()}}}
    assert TALK.to_dict()["path"] == "plain_talk.jsonl"  # a recipe that names it is the same on every machine
    assert MixtureConfig.parse(data).open().draw(0, seed=0).messages


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.inside", "json.decoder"])
def test_a_missing_package_is_named(package):
    with pytest.raises(ConfigError, match=package):
        LlavaJSON(package=package, path="plain_talk.jsonl").open()
