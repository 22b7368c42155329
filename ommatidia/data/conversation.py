"""Conversation records, as LLaVA, ShareGPT and OpenAI write them, to messages and pictures.

LLaVA and ShareGPT: ``conversations: [{from: human | gpt | system, value}]``. OpenAI: ``messages: [{role, content}]``
with a text or a list of text and image parts. Pictures stand where ``<image>`` stands in a user's or system's text, in
the order of ``image`` or ``images`` (one or a list), or are named by an image part itself. One image and no ``<image>``
at all: the image and a line break come before the first user turn, as LLaVA has it. Text alone may also stand as
Alpaca (``instruction``, ``input``, ``output``) or FLAN (``inputs``, ``targets``) writes it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ommatidia.core.errors import DataError
from ommatidia.core.picture import BytesPicture
from ommatidia.core.types import ImagePart, Message, Part, Picture, Role

PLACEHOLDER = "<image>"

_ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
}  # fmt: skip

_ASKED = (("instruction", "output"), ("inputs", "targets"))
"""Fields of one question and its answer: Alpaca, whose ``input`` stands a line below the instruction, and FLAN."""

Resolve = Callable[[Any], Picture]
"""Turns what a record says about an image (a path, bytes) into a picture. Raises DataError."""

Turn = tuple[Role, list[str | Any]]


class _Named:
    """An image that a content part names, as against a placeholder for the next of the record's list."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Next:
    """A place for the next image of the record's list."""


def read_dialogue(record: Mapping[str, Any], resolve: Resolve) -> tuple[tuple[Message, ...], tuple[Picture, ...]]:
    """Messages and pictures of one record. Raises DataError: wrong layout; placeholders and images differ in number."""
    turns = _turns(record)
    listed = images_of(record)
    places = sum(isinstance(part, _Next) for _, parts in turns for part in parts)
    named = any(isinstance(part, _Named) for _, parts in turns for part in parts)
    if places == 0 and len(listed) == 1 and not named:
        first = next((parts for role, parts in turns if role == "user"), None)
        if first is None:
            raise DataError("1 image but no user turn to put it in", kind="placeholders")
        first[:0] = [_Next(), "\n"]
        places = 1
    if places != len(listed):
        raise _unequal(places, len(listed))
    return _placed(turns, iter(listed), resolve)


def inspect_dialogue(
    record: Mapping[str, Any], resolve: Resolve
) -> tuple[tuple[Message, ...], tuple[Picture, ...], list[DataError]]:
    """What can be read of a record, and everything that ``read_dialogue`` would refuse, were it mended step by step.

    Where the pictures have no certain places, the messages are without them.
    """
    faults: list[DataError] = []
    turns: list[Turn] = []
    try:
        key, raw = _raw_turns(record)
        for number, turn in enumerate(raw):
            try:
                turns.append(_turn(turn, f"{key}[{number}]"))
            except DataError as error:
                faults.append(error)
        _need_user(turns, key)
    except DataError as error:
        faults.append(error)
    try:
        listed = images_of(record)
    except DataError as error:
        return _words(turns), (), [*faults, error]
    named = [part.value for _, parts in turns for part in parts if isinstance(part, _Named)]
    places = sum(isinstance(part, _Next) for _, parts in turns for part in parts)
    implied = places == 0 and len(listed) == 1 and not named
    if not faults and not implied and places != len(listed):
        faults.append(_unequal(places, len(listed)))
    pictures = []
    for image in (*listed, *named):
        try:
            pictures.append(resolve(image))
        except DataError as error:
            faults.append(error)
    if faults:
        return _words(turns), tuple(pictures), faults
    return *read_dialogue(record, resolve), []


def _words(turns: list[Turn]) -> tuple[Message, ...]:
    return tuple(Message(role, tuple(p for p in parts if isinstance(p, str))) for role, parts in turns)


def _unequal(places: int, images: int) -> DataError:
    cause = f"{places} {PLACEHOLDER} placeholder(s) in the text but {images} image(s) in the record"
    return DataError(cause, kind="placeholders")


def images_of(record: Mapping[str, Any]) -> list[Any]:
    """What the record lists as its images: the field ``image`` or ``images``, one or many. Raises DataError."""
    both = [record[key] for key in ("image", "images") if record.get(key) not in (None, "", [])]
    if len(both) > 1:
        raise DataError("has both 'image' and 'images'; expected one of them", kind="layout")
    if not both:
        return []
    return list(both[0]) if isinstance(both[0], Sequence) and not isinstance(both[0], str | bytes) else [both[0]]


def named_images(record: Mapping[str, Any]) -> list[Any]:
    """Everything the record says about images: its list, then those that content parts name. Raises DataError."""
    named = [part.value for _, parts in _turns(record) for part in parts if isinstance(part, _Named)]
    return images_of(record) + named


def from_data_uri(uri: str) -> BytesPicture:
    """``data:image/png;base64,...`` to a picture. Raises DataError."""
    head, comma, body = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise DataError(f"{uri[:40]}...: expected data:image/...;base64,...", kind="broken image")
    try:
        return BytesPicture(base64.b64decode(body, validate=True), name=f"{head},...")
    except ValueError:  # binascii's, or characters that no base64 has
        raise DataError(f"{uri[:40]}...: not valid base64", kind="broken image") from None


def _turns(record: Mapping[str, Any]) -> list[Turn]:
    key, raw = _raw_turns(record)
    turns = [_turn(turn, f"{key}[{number}]") for number, turn in enumerate(raw)]
    _need_user(turns, key)
    return turns


def _raw_turns(record: Mapping[str, Any]) -> tuple[str, list[Any]]:
    key = next((key for key in ("conversations", "messages") if record.get(key) is not None), None)
    if key is None and (asked := next((pair for pair in _ASKED if all(k in record for k in pair)), None)):
        question, answer = asked
        more = record.get("input") if question == "instruction" else None
        words = f"{record[question]}\n{more}" if isinstance(more, str) and more else record[question]
        return question, [{"from": "human", "value": words}, {"from": "gpt", "value": record[answer]}]
    if key is None:
        fields = ", ".join(map(repr, record)) or "none"
        cause = f"neither 'conversations' nor 'messages'; it has the fields {fields}"
        raise DataError(cause, kind="layout")
    raw = record[key]
    if not isinstance(raw, list) or not raw:
        cause = f"{key!r} is {type(raw).__name__ if raw else 'empty'}; expected a list of turns"
        raise DataError(cause, kind="layout")
    return key, raw


def _need_user(turns: list[Turn], key: str) -> None:
    if not any(role == "user" for role, _ in turns):
        raise DataError(f"{key!r} has no user turn", kind="roles")


def _turn(turn: Any, place: str) -> Turn:
    if not isinstance(turn, Mapping):
        raise DataError(f"{place} is {type(turn).__name__}; expected a turn with a speaker and a text", kind="layout")
    speaker, content = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if not isinstance(speaker, str) or speaker not in _ROLES:
        raise DataError(f"{place} is spoken by {speaker!r}; expected one of {', '.join(_ROLES)}", kind="roles")
    role = _ROLES[speaker]
    if isinstance(content, str):
        # What an assistant writes is text to learn, even where it speaks of <image>.
        return role, [content] if role == "assistant" else _split(content)
    if isinstance(content, list):
        parts = [
            piece for number, part in enumerate(content) for piece in _content(part, role, f"{place}.content[{number}]")
        ]
        return role, parts
    cause = f"{place} has {type(content).__name__} for a text; expected a string or a list of parts"
    raise DataError(cause, kind="layout")


def _content(part: Any, role: Role, place: str) -> list[Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return [part["text"]] if role == "assistant" else _split(part["text"])
    if kind in ("image", "image_url"):
        value = part.get("image", part.get("image_url", part.get("url", part.get("path"))))
        value = value.get("url") if isinstance(value, Mapping) and "url" in value else value
        return [_Next() if value is None else _Named(value)]
    raise DataError(f"{place} is no text part and no image part", kind="layout")


def _split(text: str) -> list[Any]:
    pieces: list[Any] = []
    for number, piece in enumerate(text.split(PLACEHOLDER)):
        pieces += [_Next()] if number else []
        pieces += [piece] if piece else []
    return pieces or [""]


def _placed(turns: list[Turn], listed: Any, resolve: Resolve) -> tuple[tuple[Message, ...], tuple[Picture, ...]]:
    pictures: list[Picture] = []
    messages: list[Message] = []
    for role, parts in turns:
        placed: list[Part] = []
        for part in parts:
            if isinstance(part, str):
                placed.append(part)
                continue
            pictures.append(resolve(part.value if isinstance(part, _Named) else next(listed)))
            placed.append(ImagePart(len(pictures) - 1))
        messages.append(Message(role, tuple(placed)))
    return tuple(messages), tuple(pictures)
