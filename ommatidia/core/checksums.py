"""Checksums of the files that we wrote into a folder, one by one, in ``SHA256SUMS``: what is not listed is not ours.

``sha256sum --check SHA256SUMS`` checks them without us. A file is listed before it has its name: after a kill between
the two it is missing, and made again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

from ommatidia.core.errors import ConfigError
from ommatidia.core.files import file_digest, hash_file

CHECKSUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)\n")


class Checksums:
    """The list of one folder, which one process writes at a time (``file_lock.only_writer``)."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / CHECKSUMS
        lines = (
            self._path.read_bytes().decode(errors="replace").splitlines(keepends=True) if self._path.exists() else []
        )
        # A line that a kill cut off lists nothing; the last line of a name counts.
        self._known = {found[2]: found[1] for line in lines if (found := _LINE.fullmatch(line)) is not None}
        self._torn = bool(lines) and not lines[-1].endswith("\n")

    def holds(self, name: str) -> bool:
        """Whether a file of ours is there. Its bytes are compared by ``check``."""
        return name in self._known and (self._folder / name).is_file()

    def lists(self, name: str) -> bool:
        """Whether we wrote a file of this name."""
        return name in self._known

    def same(self, name: str) -> bool:
        """Whether a file that is listed has the bytes that were written."""
        return (self._folder / name).is_file() and file_digest(self._folder / name) == self._known[name]

    def check(self, pattern: str, wanted: Collection[str]) -> None:
        """Compare the files of the folder whose names match the glob ``pattern`` with the list.

        Raises ConfigError, naming the file: one that we did not write, that is none of ``wanted``, or that was
        changed or cut since.
        """
        for path in sorted(self._folder.iterdir()):
            if not fnmatchcase(path.name, pattern):
                continue
            advice = "nothing is replaced. Move it away, or name another folder"
            if path.name not in self._known:
                raise ConfigError(f"{path}: a file that we did not write ({CHECKSUMS} does not list it); {advice}")
            if path.name not in wanted:
                raise ConfigError(f"{path}: not among what is written now; {advice}")
            if not self.same(path.name):
                raise ConfigError(f"{path}: was changed or cut since it was written; {advice}. It is then made again")

    def publish(self, part: Path, name: str) -> None:
        """Give a finished file beside them its name, and list it. Raises OSError."""
        with self._path.open("ab") as file:
            file.write(b"\n" * self._torn + f"{hash_file(part)}  {name}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        self._torn = False
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, self._folder / name)
        self._known[name] = file_digest(self._folder / name)
