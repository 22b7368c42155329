"""Folders that commands write: sealed with checksums, replaced whole, and never in the place of somebody else's files.

A sealed folder holds ``checksums.json``: its kind, and the size and SHA-256 of every file that was written. So we know
which files are ours, and a newer folder may take their place; and whether one of them has changed since.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ommatidia.core.errors import ConfigError, DiskError, RunError

SEAL = "checksums.json"
_FREE = ("README.md", ".DS_Store", "Thumbs.db")
"""What people and file managers may change in a sealed folder: it is not among the checksums."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the seal of a folder says: its kind, and the (bytes, SHA-256) of each file by its relative path."""

    kind: str
    files: Mapping[str, tuple[int, str]]


def seal(folder: Path, kind: str) -> None:
    """Write the checksums of every file below ``folder`` beside them."""
    files = {name: [(folder / name).stat().st_size, _sha256(folder / name)] for name in _held(folder)}
    document = {"format": 1, "kind": kind, "files": {n: v for n, v in files.items() if n not in (*_FREE, SEAL)}}
    (folder / SEAL).write_text(json.dumps(document, indent=1), encoding="utf-8")


def read_seal(folder: Path) -> Sealed | None:
    """The seal of a folder; None where it has none. Raises RunError for one that cannot be read."""
    try:
        document = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in document["files"].items()}
        return Sealed(str(document["kind"]), files)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{folder / SEAL}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RunError(f"{folder / SEAL}: damaged; expected the checksums of this folder's files") from None


def check_seal(folder: Path, sealed: Sealed, *, files: str = "*", unlisted: Iterable[str] = ()) -> None:
    """Raises RunError, naming the file, unless all that the seal lists is there as it was written.

    Args:
        folder: where the files are.
        sealed: what its seal says.
        files: which of the listed files are read and compared, as a glob.
        unlisted: globs of files that the seal must list, since loading would read them.
    """
    for name, (size, digest) in sealed.files.items():
        path = folder / name
        if not fnmatchcase(name, files):
            continue
        try:
            found = path.stat().st_size
            if found != size:
                raise RunError(f"{path}: {found} bytes, {size} were saved; it is damaged or was changed")
            if _sha256(path) != digest:
                anew = f"ommatidia.core.folders.seal(folder, {sealed.kind!r})"
                raise RunError(
                    f"{path}: its checksum is not the saved one; it is damaged or was changed. Copy it again; or, if "
                    f"you changed it, write the checksums anew: {anew}"
                )
        except OSError as error:
            raise RunError(f"{path}: {error.strerror or error}; it belongs to the saved folder") from None
    for name in _held(folder):
        if name not in sealed.files and any(fnmatchcase(name, glob) for glob in unlisted):
            raise RunError(f"{folder / name}: not among the files that were saved here ({SEAL}); take it away")


@contextlib.contextmanager
def replaced_folder(
    folder: Path, kind: str, *, inputs: Iterable[Path] = (), older: Iterable[str] = ()
) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its place, sealed, when the block ends well; it is gone when it does not.

    Args:
        folder: absent, empty, or a sealed folder of this kind without any other file.
        kind: what is written, for the seal.
        inputs: folders that are read meanwhile; ``folder`` may not be, hold, or lie in one of them.
        older: globs of the files of folders of this kind that were written before there were seals.

    Raises:
        ConfigError: ``folder`` holds something that we did not write, or is no place for a folder.
        DiskError: the disk is full or the place not writable.
    """
    check_replaceable(folder, kind, inputs=inputs, older=older)
    # Not mkdtemp: its folders are for their owner's eyes alone, and what is written here is there to be shared.
    beside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        try:
            yield beside
            if not (beside / SEAL).is_file():  # a copy of a sealed folder has its own
                seal(beside, kind)
            check_replaceable(folder, kind, inputs=inputs, older=older)  # somebody may have written there meanwhile
            _swap(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise DiskError(f"{folder}: cannot be written: {error.strerror or error}") from None


def check_replaceable(folder: Path, kind: str, *, inputs: Iterable[Path] = (), older: Iterable[str] = ()) -> None:
    """Raises ConfigError unless a new folder may take the place of ``folder``; see ``replaced_folder``."""
    _check_place(folder, inputs)
    if not folder.exists():
        return
    held = list(_held(folder))
    sealed = read_seal(folder)
    if sealed is not None and sealed.kind != kind:
        raise ConfigError(f"{folder}: holds a folder of kind {sealed.kind!r}, not {kind!r}; name a new or empty folder")
    ours = (*_FREE, SEAL, *(sealed.files if sealed is not None else ()))
    for name in held:
        known = name in ours or (sealed is None and any(fnmatchcase(name, glob) for glob in older))
        if not known:
            raise _foreign(folder, name)


def claim_folder(folder: Path, *, ours: Iterable[str], inputs: Iterable[Path] = (), with_others: bool = False) -> None:
    """Make ``folder`` one that we write into, where it is new, empty, or holds nothing but what we write there.

    Args:
        folder: files of ours in it are replaced one by one; everything else stays.
        ours: globs of the paths below it that we write.
        inputs: folders that are read meanwhile; ``folder`` may not be, hold, or lie in one of them.
        with_others: the folder is known to be one of ours, so files that people added may stay there.

    Raises:
        ConfigError: it holds something else, or is no place for a folder.
        DiskError: it cannot be made.
    """
    _check_place(folder.resolve() if folder.is_symlink() else folder, inputs)
    globs = (*ours, *_FREE)
    if folder.exists() and not with_others:
        for entry in sorted(folder.iterdir()):
            if not any(fnmatchcase(entry.name, glob) for glob in globs) and not entry.name.startswith("."):
                raise _foreign(folder, entry.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{folder}: cannot be made: {error.strerror or error}") from None


def _check_place(folder: Path, inputs: Iterable[Path]) -> None:
    try:
        full = folder.resolve()
        if folder.is_symlink():
            raise ConfigError(f"{folder}: a link to {full}; name that folder itself")
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: a file is there; name a new or empty folder")
        if full == Path(full.anchor) or full == Path.home().resolve() or full in Path.home().resolve().parents:
            raise ConfigError(f"{folder}: {full} holds more than one result; name a new folder below it")
        for source in inputs:
            read = source.resolve()
            if full == read or read in full.parents or full in read.parents:
                raise ConfigError(f"{folder}: it is, holds or lies in {source}, which is read; name a folder elsewhere")
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{str(folder)[:200]!r}: no place for a folder ({error})") from None


def _foreign(folder: Path, name: str) -> ConfigError:
    return ConfigError(
        f"{folder}: holds {name!r}, which we did not write; nothing is replaced. Name a new or empty folder, or move "
        "that file away"
    )


def _swap(new: Path, place: Path) -> None:
    """Put a folder into a place. What was there is taken away only once the new one stands."""
    if not place.exists():
        new.rename(place)
        return
    old = place.parent / f"{new.name}.old"
    place.rename(old)
    try:
        new.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _held(folder: Path) -> Iterator[str]:
    """Relative paths of all that is below a folder but plain folders, in order; links are not followed."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
