"""Prompts of the three templates, and their tokens piece by piece around the image, as published code makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ommatidia.core.types import IMAGE_TOKEN_ID, ImagePart, Message, Part
from ommatidia.models.language import ChatFormat, Segment

BOS = 1


def messages(turns: list[str | None]) -> tuple[Message, ...]:
    """User and assistant in turns, ``<image>`` marking the places of images; None is where an answer is wanted."""
    out = []
    for number, turn in enumerate(turns):
        if turn is None:
            break
        parts: list[Part] = []
        for place, piece in enumerate(turn.split("<image>")):
            parts += ([ImagePart(0)] if place else []) + ([piece] if piece else [])
        out.append(Message("assistant" if number % 2 else "user", tuple(parts)))
    return tuple(out)


def toy_ids(segments: list[Segment | ImagePart]) -> list[int]:
    """One id a byte, three above it; the mark that vicuna's tokenizer puts in front is the id 1."""
    ids: list[int] = []
    for segment in segments:
        if isinstance(segment, ImagePart):
            ids.append(IMAGE_TOKEN_ID)
        elif segment.template and segment.text == "<s>":
            ids.append(BOS)
        else:
            ids += [byte + 3 for byte in segment.text.encode()]
    return ids


@pytest.mark.parametrize("name", ["vicuna_v1", "llama3", "yi_34b_chatml_direct"])
def test_prompts_and_tokens(golden: Callable[[str], Any], name: str) -> None:
    recorded = golden("eagle_prompts")
    dialogues = {dialogue["name"]: dialogue["turns"] for dialogue in recorded.config["dialogues"]}
    cases = [case for case in recorded.json("text.json") if case["template"] == name]
    assert len(cases) == 6
    for case in cases:
        turns = dialogues[case["dialogue"]]
        segments = ChatFormat.parse(name).render(messages(turns), answer=turns[-1] is not None)
        text = "".join("<image>" if isinstance(s, ImagePart) else s.text for s in segments)
        assert text.removeprefix("<s>") == case["prompt"], case["dialogue"]
        ids = toy_ids(segments)
        assert ids == (case["toy_ids"] if ids[0] == BOS else case["toy_ids_no_bos"]), case["dialogue"]
