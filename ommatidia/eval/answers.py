"""The answer file: one JSON line a sample, appended as answers come, so that a kill loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from ommatidia.core.errors import DiskError, RunError


@dataclass(frozen=True, slots=True)
class Answered:
    """One line of the file: what was asked of whom, and the raw answer or why the sample could not be read."""

    id: str
    benchmark: str
    mode: str
    model: str
    """Digest or name of the answerer; empty when it was not given."""
    prompt: str = ""
    """Digest of the prompt as sent, images aside."""
    images: tuple[str, ...] = ()
    """Digests of the images as sent."""
    answer: str | None = None
    seconds: float = 0.0
    """Time of the batch over its size."""
    tokens: int | None = None
    unreadable: str | None = None
    """Why there is no answer."""

    def to_line(self) -> bytes:
        data = {key: value for key, value in asdict(self).items() if value is not None}
        # A lone surrogate, which a byte-level tokenizer can decode to, becomes its JSON escape and so survives.
        return json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        data: dict[str, Any] = json.loads(line)
        return cls(**{**data, "images": tuple(data.get("images", ()))})


def read_answers(path: str | Path) -> dict[str, Answered]:
    """The answers by sample id; of several lines the last answer counts. A last line torn by a kill is passed over.

    Raises RunError when the file is missing or a whole line of it is not one of ours.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot read the answers: {error.strerror}") from None
    found: dict[str, Answered] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            record = Answered.from_line(line)
        except (ValueError, TypeError, AttributeError):
            raise RunError(
                f"{path}, line {number}: not an answer record; the file is damaged or another kind"
            ) from None
        if record.answer is not None or record.id not in found or found[record.id].answer is None:
            found[record.id] = record
    return found


class AnswerFile:
    """The file opened for appending. Use as a context manager; entering cuts off a torn last line."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
            self._file.seek(0)
            whole = self._file.read().rfind(b"\n") + 1
            self._file.truncate(whole)
        except OSError as error:
            raise DiskError(f"{self.path}: cannot write answers: {error.strerror}") from None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, records: Iterable[Answered]) -> None:
        """Write whole lines at once. Raises DiskError when the disk refuses; what was written before stays good."""
        if self._file is None:
            raise RunError(f"{self.path}: not open for writing")
        data = b"".join(record.to_line() for record in records)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise DiskError(f"{self.path}: cannot write answers: {error.strerror}") from None
