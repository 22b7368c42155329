"""Interleaved documents, as MMC4 and OBELICS write them, to texts and images in reading order.

MMC4: ``text_list`` (sentences) and ``image_info``, each with ``matched_text_index`` and ``matched_sim``; an image
stands beside its sentence. OBELICS: ``texts`` and ``images`` of one length, one of the two None at every position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from ommatidia.core.config import Config
from ommatidia.core.errors import DataError
from ommatidia.core.types import ImagePart, Message, Part, Picture

Resolve = Callable[[Any], Picture]
"""Turns what a document says about an image into an image. Raises DataError."""


DOCUMENT_FIELDS = frozenset(("id", "text_list", "image_info", "texts", "images"))
"""Fields of a document that are read."""


class Layout(Config):
    """Which images of a document are taken, and how text stands around them."""

    place: Literal["before", "after"] = "before"
    """On which side of its sentence an image of MMC4 stands. VILA: before."""
    most_images: Annotated[int, Field(ge=0)] | None = None
    """The first so many, in the order of the file. VILA: 6; MM1: 16."""
    least_similarity: float | None = None
    """Images whose ``matched_sim`` is lower are left out. OpenFlamingo: 0.24."""
    separator: str = " "
    """Between two texts without an image in between."""
    after_image: str = ""
    """Between an image and text behind it."""
    leave_out_missing: bool = False


@dataclass(frozen=True, slots=True)
class _Placed:
    """An image where it stands."""

    value: Any


def read_document(
    record: Mapping[str, Any], resolve: Resolve, layout: Layout
) -> tuple[tuple[Message, ...], tuple[Picture, ...], list[DataError]]:
    """The one message, its images, and everything wrong with the document: no text, wrong indices, missing images."""
    faults: list[DataError] = []
    items: list[str | _Placed] = []
    try:
        items = _matched(record, layout, faults) if "text_list" in record else _listed(record, layout, faults)
    except DataError as error:
        return (), (), [*faults, error]
    if not any(isinstance(item, str) and item.strip() for item in items):
        faults.append(DataError("a document without text", kind="no text"))
    pictures: list[Picture] = []
    parts: list[Part] = []
    for item in items:
        if isinstance(item, str):
            _write(parts, item.strip(), layout)
            continue
        try:
            picture = resolve(item.value)
        except DataError as error:
            if not (layout.leave_out_missing and error.kind == "missing image"):
                faults.append(error)
            continue
        parts.append(ImagePart(len(pictures)))
        pictures.append(picture)
    return (Message("document", tuple(parts)),) if parts else (), tuple(pictures), faults


def _write(parts: list[Part], text: str, layout: Layout) -> None:
    if not text:
        return
    if parts and isinstance(parts[-1], str):
        parts[-1] += layout.separator + text
    else:
        parts.append((layout.after_image if parts else "") + text)


def _matched(record: Mapping[str, Any], layout: Layout, faults: list[DataError]) -> list[str | _Placed]:
    """MMC4: every image beside the sentence that it was matched with, in the order of the sentences."""
    sentences, infos = _list(record, "text_list"), _list(record, "image_info")
    _need_texts(sentences, "text_list")
    chosen: list[tuple[int, Any]] = []
    for number, info in enumerate(infos):
        place = f"image_info[{number}]"
        if not isinstance(info, Mapping):
            faults.append(DataError(f"{place} is {type(info).__name__}; expected an object", kind="layout"))
            continue
        index, similarity = info.get("matched_text_index"), info.get("matched_sim")
        if not isinstance(index, int) or not 0 <= index < len(sentences):
            cause = f"{place} belongs to sentence {index!r} of {len(sentences)}; expected 0 to {len(sentences) - 1}"
            faults.append(DataError(cause, kind="wrong index"))
        elif layout.least_similarity is None:
            chosen.append((index, info))
        elif not isinstance(similarity, int | float):
            faults.append(DataError(f"{place} has no number matched_sim to compare with", kind="layout"))
        elif similarity >= layout.least_similarity:
            chosen.append((index, info))
    beside: dict[int, list[_Placed]] = {}
    for index, info in chosen[: layout.most_images]:
        beside.setdefault(index, []).append(_Placed(info))
    items: list[str | _Placed] = []
    for index, sentence in enumerate(sentences):
        pictures = beside.get(index, [])
        items += [*pictures, sentence] if layout.place == "before" else [sentence, *pictures]
    return items


def _listed(record: Mapping[str, Any], layout: Layout, faults: list[DataError]) -> list[str | _Placed]:
    """OBELICS: what stands at every position, in the order of the page."""
    if "texts" not in record or "images" not in record:
        fields = ", ".join(map(repr, record)) or "none"
        cause = f"neither 'text_list' with 'image_info' nor 'texts' with 'images'; it has the fields {fields}"
        raise DataError(cause, kind="layout")
    texts, images = _list(record, "texts"), _list(record, "images")
    if len(texts) != len(images):
        raise DataError(f"{len(texts)} texts but {len(images)} images; expected lists of one length", kind="layout")
    items: list[str | _Placed] = []
    taken = 0
    for number, (text, image) in enumerate(zip(texts, images, strict=True)):
        if (text is None) == (image is None) or not isinstance(text, str | None):
            cause = f"position {number} holds {type(text).__name__} as text and {type(image).__name__} as image"
            faults.append(DataError(f"{cause}; expected one of the two", kind="wrong index"))
        elif text is not None:
            items.append(text)
        elif layout.most_images is None or taken < layout.most_images:
            taken += 1
            items.append(_Placed(image))
    return items


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise DataError(f"{key!r} is {type(value).__name__}; expected a list", kind="layout")
    return value


def _need_texts(values: Sequence[Any], key: str) -> None:
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{key}[{number}] is {type(value).__name__}; expected a text", kind="layout")
