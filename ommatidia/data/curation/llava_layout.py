"""Every dialogue and document in one layout, whatever layout it came in: what curation works on and writes.

A dialogue: ``conversations: [{from, value}]`` with ``<image>`` where an image stands, and ``image``: one or a list. A
document: ``texts`` and ``images`` of one length, one of the two None at every position, as OBELICS has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ommatidia.core.errors import DataError
from ommatidia.core.picture import FilePicture
from ommatidia.core.types import ImagePart, Message, Picture
from ommatidia.data.conversation import PASSED_ON, PLACEHOLDER, read_dialogue, unread_fields

Layout = Literal["dialogue", "pair", "document"]
"""A pair is an image and its caption: a dialogue in which nothing is asked."""

_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
_SAID = ("from", "role", "value", "content")
"""Fields of a turn that are its speaker and words."""


def llava_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record in any layout that ``conversation`` reads, in LLaVA's; fields that nothing reads stay.

    Images are named as they were, in the order of their places. Raises DataError as ``read_dialogue`` does.
    """
    images: list[str] = []

    def note(image: Any) -> Picture:
        if not isinstance(image, str):
            raise DataError(f"an image is {type(image).__name__}; expected a path or a data URI", kind="layout")
        images.append(image)
        return FilePicture(Path())

    messages, _ = read_dialogue(record, note)
    kept = {key: record[key] for key in ("id", *PASSED_ON, *unread_fields(record)) if key in record}
    return {**kept, **dialogue(messages, images, turns=_turns(record))}


def dialogue(
    messages: Sequence[Message], images: Sequence[Any], *, turns: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The fields of a dialogue; ``turns`` as they were written lend the last ones what else they say.

    Raises DataError for what the layout has no place for: an image in an answer, a mark that is text.
    """
    written = [{"from": _SPEAKERS[message.role], "value": _text(message)} for message in messages]
    for turn, given in zip(reversed(written), reversed(turns), strict=False):
        turn.update({key: value for key, value in given.items() if key not in _SAID})
    fields: dict[str, Any] = {"image": images[0] if len(images) == 1 else list(images)} if images else {}
    return {**fields, "conversations": written}


def document(message: Message, images: Sequence[Any]) -> dict[str, Any]:
    """The fields of a document."""
    return {
        "texts": [None if isinstance(part, ImagePart) else part for part in message.parts],
        "images": [images[part.index] if isinstance(part, ImagePart) else None for part in message.parts],
    }


def _text(message: Message) -> str:
    if message.role == "assistant" and any(isinstance(part, ImagePart) for part in message.parts):
        raise DataError("an image in an answer, which LLaVA's layout has no place for; leave it out", kind="field")
    if message.role != "assistant" and PLACEHOLDER in message.text:
        cause = f"the {message.role}'s words hold {PLACEHOLDER}, which would be read as the place of an image"
        raise DataError(cause, kind="placeholders")
    return "".join(PLACEHOLDER if isinstance(part, ImagePart) else part for part in message.parts)


def _turns(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return next((record[key] for key in ("conversations", "messages") if record.get(key) is not None), [])
