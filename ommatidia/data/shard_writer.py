"""Writing shards: samples of any source as tar files that ``webdataset`` and this package read.

A sample is its pictures, the very bytes where they are encoded already, and a record: the turns in OpenAI's form, or
OBELICS' two lists for a document. A shard appears under its name when it is whole; one that is there is not made again.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ommatidia.core.errors import ConfigError, DataError, DiskError
from ommatidia.core.folders import claim_folder
from ommatidia.core.picture import IMAGE_FORMATS, BytesPicture, FilePicture, SpanPicture
from ommatidia.core.source import Source
from ommatidia.core.types import ImagePart, Message, Picture, Sample
from ommatidia.data.conversation import PLACEHOLDER

_FACTS = "shards.json"
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Formats that go into a shard as they are; others become PNG."""


def write_shards(source: Source, out: Path, *, per_shard: int, fingerprint: str) -> Iterator[Path]:
    """Write every sample, ``per_shard`` to a file; yields each file that is there, made now or before.

    ``fingerprint`` is that of the source: a folder that was begun with another one is refused. Raises ConfigError,
    DataError for a sample that cannot be used, DiskError.
    """
    facts = {"fingerprint": fingerprint, "per_shard": per_shard, "samples": len(source)}
    claim_folder(out, ours=("shard-*.tar", "shard-*.omma-index*", "shard-*.part", "shards.json", "shards.part"))
    try:
        _begin(out / _FACTS, facts)
        count = -(-len(source) // per_shard)
        for number in range(count):
            path = out / f"shard-{number:06d}.tar"
            if not path.is_file():
                last = min((number + 1) * per_shard, len(source))
                _write(path, source, range(number * per_shard, last))
            yield path
    except OSError as error:
        raise DiskError(f"{out}: {error.strerror}; the shards that are whole stay, the same command goes on") from None


def _begin(path: Path, facts: dict[str, Any]) -> None:
    if path.is_file():
        before = json.loads(path.read_text())
        differing = [name for name in facts if before.get(name) != facts[name]]
        if differing:
            name = differing[0]
            raise ConfigError(
                f"{path.parent} holds shards of another {name} ({before.get(name)!r}, now {facts[name]!r}); "
                "write into another folder"
            )
        return
    part = path.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(part, path)


def _write(path: Path, source: Source, rows: range) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for row in rows:
                for ending, data in members(source[row]):
                    member = tarfile.TarInfo(f"{row:09d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def members(sample: Sample) -> list[tuple[str, bytes]]:
    """Endings and contents of a sample's members, pictures first. Raises DataError: a picture that cannot be read."""
    encoded = [_encoded(picture) for picture in sample.images]
    single = len(encoded) == 1
    names = [ending if single else f"{number}.{ending}" for number, (ending, _) in enumerate(encoded)]
    record: dict[str, Any] = {"id": sample.id}
    if sample.messages and sample.messages[0].role == "document":
        texts = [None if isinstance(part, ImagePart) else part for part in sample.messages[0].parts]
        images = [names[part.index] if isinstance(part, ImagePart) else None for part in sample.messages[0].parts]
        record |= {"texts": texts, "images": images}
    else:
        record["messages"] = [_turn(message, names, sample.id) for message in sample.messages]
    record["meta"] = {key: value for key, value in sample.meta.items() if _plain(value)}
    line = json.dumps(record, ensure_ascii=False).encode()
    return [*zip(names, (data for _, data in encoded), strict=True), ("json", line)]


def _turn(message: Message, names: list[str], sample: str) -> dict[str, Any]:
    content: list[dict[str, str]] = []
    for part in message.parts:
        if isinstance(part, ImagePart):
            content.append({"type": "image", "image": names[part.index]})
        elif PLACEHOLDER in part and message.role != "assistant":
            cause = f"the {message.role}'s words hold {PLACEHOLDER}, which would be read as the place of a picture"
            raise DataError(cause, sample=sample, kind="placeholders")
        else:
            content.append({"type": "text", "text": part})
    return {"role": message.role, "content": content}


def _plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _encoded(picture: Picture) -> tuple[str, bytes]:
    """Ending and bytes: what is encoded already as it is, what is drawn or reduced as PNG. Raises DataError."""
    data = None
    if isinstance(picture, FilePicture) and picture.at_least is None:
        data = picture.path.read_bytes() if picture.path.is_file() else None
    elif isinstance(picture, BytesPicture):
        data = picture.data
    elif isinstance(picture, SpanPicture):
        data = picture.data()
    if data is not None:
        picture.size()
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            ending = _ENDINGS.get(image.format or "")
        if ending is not None:
            return ending, data
    stored = io.BytesIO()
    picture.open().save(stored, "PNG")
    return "png", stored.getvalue()
