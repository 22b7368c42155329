"""Inputs: whether what a job reads is still what its key was made of, and which file is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ommatidia.core.contents import Contents
from ommatidia.core.errors import OmmatidiaError
from ommatidia.core.files import fresh, settled
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.store import Store

_NAMED = 3
"""Files of one input that are named in an error."""


def keep_inputs(job: Job, store: Store) -> str | None:
    """Write down what the job is about to read; None, or what has changed since its key was made."""
    with settled():
        return _told(_changed(job, job.inputs, store, keep=store.keep_inputs), "was planned")


def changed_while_running(job: Job, store: Store) -> str | None:
    """None, or what has changed since ``keep_inputs``."""
    return _told(changed_inputs(job, job.inputs, store), "began")


def changed_inputs(job: Job, before: Mapping[str, str], store: Store) -> dict[str, list[str]]:
    """Names of changed files by the input they belong to, looked at anew; empty where all is as it was.

    ``before`` has the digests of the inputs, of a job or of a finished node's record. The list of an input is empty
    where nobody wrote down what it held.
    """
    with fresh():
        return _changed(job, before, store, keep=lambda contents: None)


def skipped(record: Mapping[str, Any]) -> list[str]:
    """What a tolerance let pass when a finished node was made, a line for each sample; ``record`` is its node.json."""
    notes = record.get("notes", {})
    found: list[str] = []
    for name in ("refused", "unreadable"):
        listed = notes.get(name) or []
        found += [f"{one}: {why}" for one, why in listed.items()] if isinstance(listed, Mapping) else map(str, listed)
    return found


def _changed(
    job: Job, before: Mapping[str, str], store: Store, *, keep: Callable[[Contents], None]
) -> dict[str, list[str]]:
    try:
        now = job.reads()
    except OmmatidiaError as error:  # what it reads is there no longer
        return {str(error): []}
    found = {}
    for name, made in before.items():
        contents = now.get(name, Contents())
        if contents.digest == made:
            keep(contents)
            continue
        listed = store.inputs(made)
        found[name] = [] if listed is None else listed.changed(contents)
    return found


def _told(changed: Mapping[str, list[str]], since: str) -> str | None:
    if not changed:
        return None
    parts = []
    for name, files in changed.items():
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        parts.append(f"{name} ({', '.join(files[:_NAMED])}{more})" if files else name)
    return f"what it reads has changed since it {since}: {'; '.join(parts)}; nothing was stored, run it again"
