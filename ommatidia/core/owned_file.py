"""Files that commands write alone, a page or a figure: replaced by us while they are as we left them, never otherwise.

The hidden file ``.NAME.sha256`` beside one holds its digest, and that of the one before it: a kill between the two
renamings leaves a file that is known as ours.
"""

from __future__ import annotations

import os
from pathlib import Path

from ommatidia.core.errors import ConfigError, DiskError
from ommatidia.core.file_lock import only_writer
from ommatidia.core.files import hash_file


def check_file(path: Path) -> None:
    """Raises ConfigError where ``path`` is a file that we did not write, or one that was changed since."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_file():
        raise ConfigError(f"{path}: no file; name a new file")
    advice = "nothing is replaced. Move it away, or name another file"
    try:
        known = _facts(path).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise ConfigError(f"{path}: a file that we did not write; {advice}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{_facts(path)}: cannot be read ({error}); {advice}") from None
    if hash_file(path) not in known:
        raise ConfigError(f"{path}: was changed since it was written; {advice}")


def put_file(path: Path, data: bytes) -> None:
    """Write a file whole, in the place of our own earlier one. Raises as ``check_file``, RunError, and DiskError."""
    with only_writer(path):
        check_file(path)
        facts = _facts(path)
        part, known = path.with_name(f".{path.name}.part"), facts.with_name(f"{facts.name}.part")
        try:
            part.write_bytes(data)
            before = [hash_file(path)] if path.exists() else []
            known.write_text("\n".join([hash_file(part), *before]) + "\n", encoding="utf-8")
            os.replace(known, facts)
            os.replace(part, path)
        except OSError as error:
            raise DiskError(f"{path}: cannot be written: {error.strerror or error}") from None


def _facts(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")
