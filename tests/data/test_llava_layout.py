"""A record in LLaVA's layout is read as the record was, whatever layout that had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ommatidia.core.errors import DataError
from ommatidia.core.picture import FilePicture
from ommatidia.core.types import ImagePart, Message
from ommatidia.data.conversation import read_dialogue
from ommatidia.data.curation.llava_layout import llava_record

TEXT = st.text(max_size=12).filter(lambda text: "<" not in text)
FIELDS = st.dictionaries(st.sampled_from(["score", "source", "width", "provenance"]), st.integers() | TEXT, max_size=3)


def told(record: dict[str, Any]) -> tuple[list[Any], list[str]]:
    messages, pictures = read_dialogue(record, lambda name: FilePicture(Path(name)))
    return [(message.role, joined(message)) for message in messages], [str(picture.path) for picture in pictures]


def joined(message: Message) -> list[str | int]:
    parts: list[str | int] = []
    for part in message.parts:
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        elif part != "":
            parts.append(part.index if isinstance(part, ImagePart) else part)
    return parts


@st.composite
def openai(draw: st.DrawFn) -> dict[str, Any]:
    """Messages with parts in any order, images by name; perhaps a system prompt in its own field."""
    messages: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        text = draw(st.lists(TEXT, max_size=2)) or ["?"]
        parts: list[dict[str, Any]] = [{"type": "text", "text": one} for one in text]
        for image in range(draw(st.integers(0, 2))):
            named = {"type": "image", "image": f"{number}-{image}.png"}
            parts.insert(draw(st.integers(0, len(parts))), named)
        messages += [{"role": "user", "content": parts, "mood": number}, {"role": "assistant", "content": draw(TEXT)}]
    return {**draw(FIELDS), "messages": messages, **draw(st.sampled_from([{}, {"system": "Be kind."}]))}


@st.composite
def llava(draw: st.DrawFn) -> dict[str, Any]:
    """Turns with marks, and an image without any where there is one."""
    marks = draw(st.integers(0, 2))
    asked = draw(TEXT) + "".join(f"<image>{draw(TEXT)}" for _ in range(marks))
    turns = [
        {"from": "human", "value": asked},
        {"from": "gpt", "value": draw(TEXT) + draw(st.sampled_from(["", "<image>"]))},
    ]
    images = [f"{n}.png" for n in range(marks)] or draw(st.sampled_from([[], ["0.png"]]))
    return {**draw(FIELDS), "conversations": turns, **({"image": images} if images else {})}


@st.composite
def alpaca(draw: st.DrawFn) -> dict[str, Any]:
    history = draw(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=2))
    return {**draw(FIELDS), "instruction": draw(TEXT), "input": draw(TEXT), "output": draw(TEXT), "history": history}


@given(openai() | llava() | alpaca())
def test_it_says_the_same(record: dict[str, Any]) -> None:
    written = llava_record(record)
    assert told(written) == told(record)
    assert set(written) - set(record) <= {"conversations", "image"}
    assert {key: written[key] for key in ("score", "source", "width", "provenance") if key in record} == {
        key: record[key] for key in ("score", "source", "width", "provenance") if key in record
    }
    assert llava_record(written) == written
    if "messages" in record:
        assert [turn["mood"] for turn in written["conversations"] if "mood" in turn] == list(
            range(len(record["messages"]) // 2)
        )


def test_an_image_in_an_answer_is_refused() -> None:
    parts = [{"type": "image", "image": "a.png"}]
    turns = [{"role": "user", "content": "Draw."}, {"role": "assistant", "content": parts}]
    with pytest.raises(DataError, match="an image in an answer"):
        llava_record({"messages": turns})
