"""Conversation records, as LLaVA, ShareGPT and OpenAI write them, to messages and images.

LLaVA and ShareGPT: ``conversations: [{from: human | gpt | system, value}]``. OpenAI: ``messages: [{role, content}]``
with a text or a list of text and image parts. Images stand where ``<image>`` stands in a user's or system's text, in
the order of ``image`` or ``images`` (one or a list), or are named by an image part itself. One image and no ``<image>``
at all: the image and a line break come before the first user turn, as LLaVA has it. An image part with an ``index`` is
that image of the list, from 0. Text alone may also stand as Alpaca (``instruction``, ``input``, ``output``, with the
turns before in ``history``) or FLAN (``inputs``, ``targets``) writes it. ``system`` is said before the first turn. What
these formats define beyond that, and would change what is learned, is refused by name.
"""

from __future__ import annotations

import base64
import re
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

SYSTEM_FIELDS = ("system", "system_prompt")

REFUSED_FIELDS = {
    "video": "a video", "videos": "videos", "audio": "a sound", "audios": "sounds", "tools": "tools",
    "functions": "tools", "chosen": "a preference", "rejected": "a preference", "rejected_response": "a preference",
}  # fmt: skip
"""Fields of a record that the formats define and that are not read, with what they hold."""

PASSED_ON = ("options", "references", "category")
"""Fields of a record that a benchmark may want."""

_READ_FIELDS = frozenset(
    ("id", "image", "images", "conversations", "messages", "instruction", "input", "output", "inputs", "targets")
).union(PASSED_ON)
FORMAT_FIELDS = frozenset((*SYSTEM_FIELDS, *REFUSED_FIELDS, "history"))
"""Fields of a record, beside its turns and images, that change what it says."""

_NOTHING: tuple[Any, ...] = (None, "", [], {})

_MARK = re.compile(r"<(?:video|audio|image_placeholder|image [0-9]+)>")
"""Marks of other formats for what is no text."""

Resolve = Callable[[Any], Picture]
"""Turns what a record says about an image (a path, bytes) into an image. Raises DataError."""

Turn = tuple[Role, list[str | Any]]


class _Named:
    """An image that a content part names, as against a placeholder for the next of the record's list."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Next:
    """A place for the next image of the record's list, or for the one with this index."""

    __slots__ = ("index",)

    def __init__(self, index: int | None = None) -> None:
        self.index = index


def read_dialogue(record: Mapping[str, Any], resolve: Resolve) -> tuple[tuple[Message, ...], tuple[Picture, ...]]:
    """Messages and images of one record.

    Raises DataError: wrong layout; turns out of order; fields or marks that are not read; placeholders and images that
    differ in number.
    """
    turns = _turns(record)
    for fault in (*_refused(record), *_marks(turns), *out_of_order([role for role, _ in turns])):
        raise fault
    listed = _chosen(images_of(record), turns)
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

    Where the images have no certain places, the messages are without them.
    """
    faults: list[DataError] = [*_refused(record)]
    turns: list[Turn] = []
    try:
        key, raw = _raw_turns(record)
        for place, turn in raw:
            try:
                turns.append(_turn(turn, place))
            except DataError as error:
                faults.append(error)
        faults += _marks(turns)
        _need_user(turns, key)
        if len(turns) == len(raw):
            faults += out_of_order([role for role, _ in turns])
    except DataError as error:
        faults.append(error)
    try:
        listed = images_of(record) if faults else _chosen(images_of(record), turns)
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


def unread_fields(record: Mapping[str, Any]) -> list[str]:
    """Fields of a record that no format defines; nothing reads them here."""
    return [key for key in record if key not in _READ_FIELDS and key not in FORMAT_FIELDS]


def literal_marks(text: str) -> list[DataError]:
    """Marks for what is no text, where nothing reads them as such."""
    return [DataError(f"{mark} stays in the text; nothing stands for it", kind="mark") for mark in _found(text)]


def _found(text: str) -> list[str]:
    return list(dict.fromkeys(_MARK.findall(text)))


def _marks(turns: list[Turn]) -> list[DataError]:
    text = "\n".join(part for role, parts in turns if role != "assistant" for part in parts if isinstance(part, str))
    return literal_marks(text)


def _refused(record: Mapping[str, Any]) -> list[DataError]:
    return [
        DataError(f"has the field {key!r}: {what}, which is not read; leave the field out", kind="field")
        for key, what in REFUSED_FIELDS.items()
        if record.get(key) not in _NOTHING
    ]


def out_of_order(roles: Sequence[str]) -> list[DataError]:
    """What is wrong where turns do not alternate between user and assistant, behind a system prompt."""
    first = 1 if roles and roles[0] == "system" else 0
    for number, role in enumerate(roles[first:]):
        expected = "assistant" if number % 2 else "user"
        if role != expected:
            cause = f"turn {number + first + 1} is the {role}'s; expected the {expected}'s"
            return [DataError(cause, kind="roles")]
    return []


def _chosen(listed: list[Any], turns: list[Turn]) -> list[Any]:
    """The record's images in the order of their places, where these say which they want. Raises DataError."""
    wanted = [part.index for _, parts in turns for part in parts if isinstance(part, _Next)]
    chosen = [index for index in wanted if index is not None]
    if not chosen:
        return listed
    if len(chosen) < len(wanted):
        raise DataError("some image parts have an 'index' and some have none", kind="placeholders")
    for index in chosen:
        if not 0 <= index < len(listed):
            cause = f"an image part has the index {index}, but the record has {len(listed)} image(s), counted from 0"
            raise DataError(cause, kind="placeholders")
    if unused := sorted(set(range(len(listed))) - set(chosen)):
        raise DataError(f"no image part has the index {unused[0]} of an image in the record", kind="placeholders")
    return [listed[index] for index in chosen]


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
    """``data:image/png;base64,...`` to an image. Raises DataError."""
    head, comma, body = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise DataError(f"{uri[:40]}...: expected data:image/...;base64,...", kind="broken image")
    try:
        return BytesPicture(base64.b64decode(body, validate=True), name=f"{head},...")
    except ValueError:  # binascii's, or characters that no base64 has
        raise DataError(f"{uri[:40]}...: not valid base64", kind="broken image") from None


def _turns(record: Mapping[str, Any]) -> list[Turn]:
    key, raw = _raw_turns(record)
    turns = [_turn(turn, place) for place, turn in raw]
    _need_user(turns, key)
    return turns


def _raw_turns(record: Mapping[str, Any]) -> tuple[str, list[tuple[str, Any]]]:
    """The field that holds the turns; each turn as it is written, with its place in words."""
    key, said = _said(record)
    turns = _history(record) + [(f"{key}[{number}]", turn) for number, turn in enumerate(said)]
    first = said[0]
    led = isinstance(first, Mapping) and first.get("from", first.get("role")) == "system"
    for field in SYSTEM_FIELDS:
        if (words := record.get(field)) in _NOTHING:
            continue
        if not isinstance(words, str):
            raise DataError(f"{field!r} is {type(words).__name__}; expected a text", kind="layout")
        if led:
            raise DataError(f"has {field!r} beside another system prompt; expected one of them", kind="layout")
        turns, led = [(field, {"role": "system", "content": words}), *turns], True
    return key, turns


def _said(record: Mapping[str, Any]) -> tuple[str, list[Any]]:
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


def _history(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The turns before those of the record, as Alpaca has them: pairs of a question and its answer."""
    pairs = record.get("history")
    if pairs in _NOTHING:
        return []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DataError("'history' is no list of pairs, each a question and its answer", kind="layout")
    return [
        (f"history[{number}]", {"from": speaker, "value": words})
        for number, pair in enumerate(pairs)
        for speaker, words in zip(("human", "gpt"), pair, strict=True)
    ]


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
    _need_plain(turn, role, place)
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


def _need_plain(turn: Mapping[str, Any], role: Role, place: str) -> None:
    """Raise DataError for a turn whose loss is not what it is here: on every answer in full, on nothing else."""
    usual = 1 if role == "assistant" else 0
    for key in ("loss", "weight", "loss_scale"):
        value = turn.get(key)
        if value is not None and (role == "assistant" or value) and value != usual:
            cause = f"{place} has the {key} {value!r}; expected {bool(usual)} or no field {key!r}: "
            raise DataError(f"{cause}every answer is learned in full, and nothing else is", kind="field")
    for key in ("tool_calls", "function_call"):
        if turn.get(key) not in _NOTHING:
            raise DataError(f"{place} has the field {key!r}: a call of a tool, which is not read", kind="field")


def _content(part: Any, role: Role, place: str) -> list[Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return [part["text"]] if role == "assistant" else _split(part["text"])
    if kind in ("image", "image_url"):
        value = part.get("image", part.get("image_url", part.get("url", part.get("path"))))
        value = value.get("url") if isinstance(value, Mapping) and "url" in value else value
        if value is not None:
            return [_Named(value)]
        index = part.get("index")
        if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
            raise DataError(f"{place} has the index {index!r}; expected a whole number from 0", kind="layout")
        return [_Next(index)]
    if kind in ("video", "video_url", "audio", "input_audio", "audio_url"):
        raise DataError(f"{place} is of type {kind!r}, which is not read", kind="field")
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
