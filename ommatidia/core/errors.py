"""The four kinds of error, and the nearest valid name for a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class OmmatidiaError(Exception):
    """Base of every error a user can cause. The command line prints its message as one line and exits non-zero."""

    status: ClassVar[int] = 1
    """The exit status with which the command line ends."""
    everywhere = False
    """Whether all processes of a distributed run raise it alike, so that one of them saying it is enough."""


class ConfigError(OmmatidiaError, ValueError):
    """A value cannot be built: names the dotted path, what was given, what was wanted and the nearest valid name.

    It is a ``ValueError`` so that pydantic, which runs our validators, collects it together with its path.
    """


class DataError(OmmatidiaError):
    """A record cannot be used: names the source, the sample and the cause; ``kind`` is what counts are made by."""

    def __init__(self, cause: str, *, source: str = "", sample: str = "", kind: str = "unusable") -> None:
        self.cause, self.source, self.sample, self.kind = cause, source, sample, kind
        place = ", ".join(p for p in (source, f"sample {sample!r}" if sample else "") if p)
        super().__init__(f"{place}: {cause}" if place else cause)

    def at(self, *, source: str = "", sample: str = "") -> DataError:
        """The same error with the place filled in where it was still unknown."""
        return DataError(self.cause, source=self.source or source, sample=self.sample or sample, kind=self.kind)


class AlignmentError(OmmatidiaError):
    """Image placeholders in the text and visual tokens from the encoders differ in number."""


class RunError(OmmatidiaError):
    """Something failed while running: a node, the store, a checkpoint, a non-finite loss."""


class DesignsFailedError(RunError):
    """Designs that were asked for failed. Tracebacks lie in the store; what finished is kept."""

    status = 3


class UnansweredError(RunError):
    """A language model left questions without an answer. The answers that came are kept; the same command asks on."""

    status = 4


class NoVerdictError(RunError):
    """The judge of a benchmark gave no verdict on any of its answers. They are kept, and may be scored later."""


class DamagedError(RunError):
    """A file of a finished node is missing or was changed. Reading leaves the node as it is."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class DiskError(RunError):
    """A file cannot be written: a full disk, no permission. It ends a search: the next design would meet it as well."""


def short(value: object) -> str:
    """A value as a message shows it: in one line, a long one cut."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}... ({len(text):,} characters)"


_LONGEST = 160


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name closest to ``name``, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(what: str, name: str, valid: Iterable[str]) -> str:
    """One sentence for an unknown name: the nearest valid one if there is one, and all of them when they are few."""
    names = sorted(valid)
    text = f"unknown {what} {short(name)}"
    if (near := nearest(name, names)) is not None:
        text += f"; did you mean {near!r}?"
    if names and (near is None or len(names) <= 16):
        text += f"{'' if near else '.'} Valid: {', '.join(names[:40])}{', ...' if len(names) > 40 else ''}"
    return text
