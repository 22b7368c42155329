"""Writing shards: samples of any source as tar files that ``webdataset`` and this package read.

A sample is its images, the very bytes where they are encoded already, and a record: the turns in OpenAI's form, or
OBELICS' two lists for a document; the record's other fields stand beside them. A shard appears under its name when it
is whole, and ``SHA256SUMS`` lists it; one that is there, as it was written, is not made again.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ommatidia.core.checksums import CHECKSUMS, Checksums
from ommatidia.core.errors import ConfigError, DataError, DiskError, RunError
from ommatidia.core.file_lock import only_writer
from ommatidia.core.folders import claim_folder
from ommatidia.core.source import Source
from ommatidia.core.types import ImagePart, Message, Sample
from ommatidia.data.conversation import PLACEHOLDER
from ommatidia.data.encoded_image import encode_image

_FACTS = "shards.json"
_OWN_FIELDS = frozenset(("id", "meta", "messages", "conversations", "texts", "text_list", "images"))


def write_shards(
    source: Source, out: Path, *, per_shard: int, fingerprint: str, again: Callable[[], str] | None = None
) -> Iterator[Path]:
    """Write every sample, ``per_shard`` to a file; yields each file that is there, made now or before.

    ``fingerprint`` is that of the source, ``again`` gives it anew at the end. Raises ConfigError for a folder that was
    begun with another one, or that holds a shard we did not write or that was changed; RunError where another process
    writes it, or the source changed meanwhile; DataError for a sample that cannot be used; DiskError.
    """
    count = -(-len(source) // per_shard)
    names = [f"shard-{number:06d}.tar" for number in range(count)]
    facts = {"fingerprint": fingerprint, "per_shard": per_shard, "samples": len(source)}
    with only_writer(out):
        ours = ("shard-*.tar", "shard-*.omma-index*", "shard-*.part", "shards.json", "shards.part", CHECKSUMS)
        claim_folder(out, ours=ours)
        try:
            _begin(out / _FACTS, facts)
            checksums = Checksums(out)
            checksums.check("shard-*.tar", names)
            for number, name in enumerate(names):
                if not checksums.holds(name):
                    last = min((number + 1) * per_shard, len(source))
                    checksums.publish(_write(out / name, source, range(number * per_shard, last)), name)
                yield out / name
        except OSError as error:
            kept = "the shards that are whole stay, the same command goes on"
            raise DiskError(f"{out}: {error.strerror}; {kept}") from None
        if again is not None and again() != fingerprint:
            raise RunError(f"{out}: the source changed while its shards were written; write them into another folder")


def _begin(path: Path, facts: dict[str, Any]) -> None:
    if path.is_file():
        try:
            before = json.loads(path.read_bytes())
            differing = [name for name in facts if before.get(name) != facts[name]]
        except (ValueError, AttributeError):
            raise ConfigError(f"{path}: damaged, so that its folder cannot be known as ours; name another") from None
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


def _write(path: Path, source: Source, rows: range) -> Path:
    """The shard beside ``path``, without its name."""
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
    return part


def members(sample: Sample) -> list[tuple[str, bytes]]:
    """Endings and contents of a sample's members, images first. Raises DataError: an image that cannot be read."""
    encoded = [encode_image(picture) for picture in sample.images]
    single = len(encoded) == 1
    names = [ending if single else f"{number}.{ending}" for number, (ending, _) in enumerate(encoded)]
    if taken := _OWN_FIELDS & sample.fields.keys():
        cause = f"has a field {min(taken)!r}, which a shard's record has for itself; rename it"
        raise DataError(cause, sample=sample.id, kind="field")
    record: dict[str, Any] = {**sample.fields, "id": sample.id}
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
            cause = f"the {message.role}'s words hold {PLACEHOLDER}, which would be read as the place of an image"
            raise DataError(cause, sample=sample, kind="placeholders")
        else:
            content.append({"type": "text", "text": part})
    return {"role": message.role, "content": content}


def _plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
