"""The file that a curation writes, and the facts beside it by which it is known as ours."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ommatidia.core.errors import ConfigError
from ommatidia.core.files import hash_file


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """What made an output: the key of its configuration and sources, its content's digest, and the passages."""

    key: str
    content: str
    config: dict[str, Any]
    passages: list[dict[str, Any]]
    previous: str = ""
    """The digest of the output that it replaces: a kill may leave that one standing under these facts."""


def facts_path(out: Path) -> Path:
    """Where the facts about ``out`` are."""
    return out.with_name(f"{out.name}.curation.json")


def read_output(out: Path) -> OutputFacts | None:
    """The facts of an output that stands as it was written; None: there is no output yet.

    Raises ConfigError for a file that we did not write, or that was changed since.
    """
    if not out.exists() and not out.is_symlink():
        return None
    path = facts_path(out)
    if not out.is_file():
        raise ConfigError(f"{out}: no file; name a new file")
    advice = "nothing is replaced. Move it away or name another output"
    try:
        read = json.loads(path.read_bytes())
        facts = OutputFacts(read["key"], read["content"], read["config"], read["passages"], read.get("previous", ""))
    except FileNotFoundError:
        raise ConfigError(f"{out}: a file that we did not write ({path.name} is not beside it); {advice}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: damaged, so that {out.name} cannot be known as ours; {advice}") from None
    found = hash_file(out)
    if found == facts.previous != facts.content:  # ours, and what made it is no longer known
        return OutputFacts("", found, {}, [])
    if found != facts.content:
        raise ConfigError(f"{out}: was changed since it was written; {advice}")
    return facts


def put_output(part: Path, out: Path, facts: OutputFacts) -> None:
    """Put a finished file and its facts into place. Raises OSError."""
    path = facts_path(out)
    beside = part.with_name(f"{part.name}.facts")
    fields = {name: getattr(facts, name) for name in ("key", "content", "config", "passages")}
    fields["previous"] = hash_file(out) if out.exists() else ""
    beside.write_text(json.dumps(fields, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(beside, path)
    os.replace(part, out)
