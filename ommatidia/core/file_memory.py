"""What this machine remembers of files between commands: a small SQLite database in the user's cache folder.

It only saves time. One that is broken, locked or cannot be written costs one log line and the time to hash again. Every
write is a transaction of its own, so a kill loses what was not yet written and nothing else; several processes
may use one database at once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from ommatidia.core.console import console

_CHUNK = 500
"""Names looked up in one statement; SQLite allows at least 999 variables."""
_PATIENCE = 10.0
"""Seconds to wait for another process that is writing."""

_TABLES = """
CREATE TABLE IF NOT EXISTS folders (id INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    folder INTEGER NOT NULL, name BLOB NOT NULL, state BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS derived (key TEXT PRIMARY KEY, value BLOB NOT NULL);
"""

Row = tuple[str, bytes, bytes]
"""Absolute path, state and SHA-256 of a file."""


def cache_folder() -> Path:
    """Where this machine keeps what can be made again: ``OMMATIDIA_CACHE``, else the user's cache folder."""
    base = (
        os.environ.get("OMMATIDIA_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ommatidia"
    )
    return Path(base)


class FileMemory:
    """Digests of files by path and state, and small values derived from files by key. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statements = 0
        """SQL statements so far: for measuring."""
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._broken = False

    def find(self, folder: str, names: Sequence[str]) -> Mapping[str, tuple[bytes, bytes]]:
        """State and digest of those files of one folder that are remembered; a statement for some hundred names."""
        found: dict[str, tuple[bytes, bytes]] = {}
        with self._using() as connection:
            if connection is None:
                return found
            place = self._run(connection, "SELECT id FROM folders WHERE path = ?", [os.fsencode(folder)]).fetchone()
            if place is None:
                return found
            for start in range(0, len(names), _CHUNK):
                some = [os.fsencode(name) for name in names[start : start + _CHUNK]]
                marks = ",".join("?" * len(some))
                text = f"SELECT name, state, digest FROM files WHERE folder = ? AND name IN ({marks})"
                rows = self._run(connection, text, [place[0], *some])
                found.update((os.fsdecode(name), (state, made)) for name, state, made in rows)
        return found

    def keep(self, rows: Iterable[Row]) -> None:
        """Remember some files, in one transaction."""
        with self._using() as connection:
            if connection is None:
                return
            places: dict[str, int] = {}
            values: list[tuple[int, bytes, bytes, bytes]] = []
            with connection:
                for path, state, made in rows:
                    folder, name = os.path.split(path)
                    if folder not in places:
                        places[folder] = self._place(connection, os.fsencode(folder))
                    values.append((places[folder], os.fsencode(name), state, made))
                self.statements += 1
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", values)

    def value(self, key: str) -> bytes | None:
        """A derived value, or None."""
        row = None
        with self._using() as connection:
            if connection is not None:
                row = self._run(connection, "SELECT value FROM derived WHERE key = ?", [key]).fetchone()
        try:
            return None if row is None else zlib.decompress(row[0])
        except zlib.error:
            return None

    def keep_value(self, key: str, value: bytes) -> None:
        """Remember a derived value."""
        with self._using() as connection:
            if connection is not None:
                with connection:
                    packed = zlib.compress(value, 1)
                    self._run(connection, "INSERT OR REPLACE INTO derived VALUES (?, ?)", [key, packed])

    def _place(self, connection: sqlite3.Connection, folder: bytes) -> int:
        self._run(connection, "INSERT OR IGNORE INTO folders (path) VALUES (?)", [folder])
        row = self._run(connection, "SELECT id FROM folders WHERE path = ?", [folder]).fetchone()
        return int(row[0])

    def _run(self, connection: sqlite3.Connection, text: str, values: Sequence[object]) -> sqlite3.Cursor:
        self.statements += 1
        return connection.execute(text, values)

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection | None]:
        """The connection, made when it is first wanted; None once the database has failed, which is told once."""
        with self._lock:
            connection = None
            try:
                connection = None if self._broken else self._connected()
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
            try:
                yield connection
            except sqlite3.Error as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._broken = True
        console().log(f"{self.path}: cannot be used ({error}); files are hashed again in every command")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            made = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
            # SQLite waits for a writer, but not for another process that changes the journal's mode at the same time.
            with FileLock(f"{self.path}.lock", timeout=_PATIENCE):
                made.execute("PRAGMA journal_mode = WAL")
                made.execute("PRAGMA synchronous = NORMAL")
                made.executescript(_TABLES)
            self._connection = made
        return self._connection
