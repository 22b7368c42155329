"""Previews: a page with a few records of a source, words and images in their order, faults beside them."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from ommatidia.core.config import digest
from ommatidia.core.errors import DataError
from ommatidia.core.owned_file import put_file
from ommatidia.core.source import Inspection, Looked
from ommatidia.core.types import ImagePart, Part, Picture
from ommatidia.models.processor import Processor

_SIDE = 240
"""Pixels of the longer side of an image on the page."""

_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "article{border:1px solid #ccc;border-radius:6px;padding:.6em 1em;margin:1em 0}h2{font-size:1em;margin:.2em 0}"
    "b{color:#666;font-weight:600;margin-right:.5em}p{white-space:pre-wrap;margin:.4em 0}"
    "img{vertical-align:middle;margin:.2em;border:1px solid #ddd}.fault{color:#a00}mark{background:#d9f2d9}"
)


def previews(
    name: str, inspection: Inspection, folder: Path, *, count: int, processor: Processor | None = None
) -> Path:
    """Write ``count`` records, spread evenly over the source; what carries a loss is marked where a model says so.

    Raises ConfigError for a page there that we did not write or that was changed, RunError, and DiskError.
    """
    length = len(inspection)
    rows = [index * length // min(count, length) for index in range(min(count, length))]
    body = "".join(_article(inspection.look(row), processor) for row in rows)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(name)}</title><style>{_STYLE}</style>'
    note = "" if processor is None else "<p><mark>Marked text</mark> carries the loss.</p>"
    page = f"{head}<body><h1>{escape(name)}</h1><p>{len(rows)} of {length:,} records.</p>{note}{body}</body></html>\n"
    path = page_path(name, folder)
    put_file(path, page.encode(errors="replace"))
    return path


def page_path(name: str, folder: Path) -> Path:
    """The page of a source: named as it is, and after its digest too where that is no file name."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return folder / (f"{plain}.html" if plain == name else f"{plain}-{digest(name)[:8]}.html")


def _article(looked: Looked, processor: Processor | None) -> str:
    title = looked.place + (f" · {looked.id}" if looked.id is not None else "")
    faults = "".join(f'<p class="fault">{escape(error.kind)}: {escape(error.cause)}</p>' for error in looked.faults)
    if processor is None or looked.faults or not looked.messages:
        lines = [(message.role, [_part(part, looked) for part in message.parts]) for message in looked.messages]
        words = "".join(f"<p><b>{role}</b>{''.join(parts)}</p>" for role, parts in lines)
    else:
        words = f"<p>{_rendered(looked, processor)}</p>"
    return f"<article><h2>{escape(title)}</h2>{words}{faults}</article>"


def _rendered(looked: Looked, processor: Processor) -> str:
    """The text as the model reads it."""
    try:
        segments = processor.chat.render(looked.messages, answer=True)
    except DataError as error:
        return f'<span class="fault">{escape(error.cause)}</span>'
    return "".join(
        _part(segment, looked)
        if isinstance(segment, ImagePart)
        else f"<mark>{escape(segment.text)}</mark>"
        if segment.supervised
        else escape(segment.text)
        for segment in segments
    )


def _part(part: Part, looked: Looked) -> str:
    return escape(part) if isinstance(part, str) else _image(looked.images[part.index])


def _image(picture: Picture) -> str:
    try:
        image = picture.open()
    except DataError as error:
        return f'<span class="fault">[{escape(error.cause)}]</span>'
    width, height = image.size
    image.thumbnail((_SIDE, _SIDE))
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=85)
    data = base64.b64encode(stored.getvalue()).decode()
    return f'<img alt="" title="{width} x {height} px" src="data:image/jpeg;base64,{data}">'
