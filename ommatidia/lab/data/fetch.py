"""Fetch a published benchmark from the Hugging Face hub: the one command that downloads anything, and only when run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ommatidia.core.checksums import Checksums
from ommatidia.core.command_result import CommandResult
from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DiskError, RunError
from ommatidia.core.file_lock import only_writer
from ommatidia.eval.benchmarks import Published
from ommatidia.lab.saved.scoring import read_benchmark

_ARRIVING = ".fetching"
"""Folder below the target for what is on its way; the hub's client goes on from it after a stop."""


@dataclass(frozen=True)
class Listed:
    """What the hub says of a repository of data."""

    licence: str
    """As its card names it; empty where it names none."""
    files: Mapping[str, int]
    """Bytes by path."""


class Hub(Protocol):
    """What ``fetch`` needs of a hub."""

    def listed(self, repository: str) -> Listed: ...

    def download(self, repository: str, files: Sequence[str], folder: Path) -> None:
        """Put the files below ``folder`` under their own paths."""
        ...


class HuggingFace:
    """The real hub. Raises ConfigError where its package is missing, RunError where it cannot be reached."""

    def listed(self, repository: str) -> Listed:
        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise ConfigError("fetching needs the package huggingface_hub: pip install 'ommatidia[hub]'") from None
        try:
            info = HfApi().dataset_info(repository, files_metadata=True)
        except _refusals() as error:
            raise RunError(f"{repository}: {_line(error)}") from None
        licence = getattr(info.card_data, "license", None) or ""
        named = licence if isinstance(licence, str) else ", ".join(map(str, licence))
        return Listed(named, {file.rfilename: file.size or 0 for file in info.siblings or ()})

    def download(self, repository: str, files: Sequence[str], folder: Path) -> None:
        from huggingface_hub import snapshot_download

        try:
            snapshot_download(repository, repo_type="dataset", local_dir=folder, allow_patterns=list(files))
        except _refusals() as error:
            raise RunError(f"{repository}: {_line(error)}; the same command goes on from what is there") from None


def _refusals() -> tuple[type[BaseException], ...]:
    """What a failed request raises: the hub's own errors descend from those of the client that it is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, ValueError, *HfHubHTTPError.__bases__)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def fetch(name: str, *, data: Path, split: str | None, dry: bool, hub: Hub | None = None) -> CommandResult:
    """Say licence and size of one split of a benchmark, then download its files below ``data``.

    ``dry`` only says them. ``split`` may be one that only lends examples, such as train. Raises ConfigError for a
    benchmark that is not published, or a file there that is not the hub's; RunError where the hub has no such files or
    another process fetches them; DiskError where they do not fit.
    """
    hub = HuggingFace() if hub is None else hub
    config = read_benchmark(name)
    if not isinstance(config, Published):
        raise ConfigError(f"{name}: it is made here and needs no data; omma fetch is for published benchmarks")
    config = config.model_copy(update={"data": data, **({"split": split} if split else {})})
    repository = config.facts.repository
    listed = hub.listed(repository)
    files = {path: listed.files[path] for part in config.parts() for path in files_of(*part, listed.files)}
    size = sum(files.values())
    licence = listed.licence or "none named; read the card before use"
    said = f"{config.facts.title}: {repository}, split {config.split}, {len(files)} files, {size / 1e6:,.1f} MB"
    console().log(f"{said}; licence: {licence}")  # before anything is downloaded
    target = config.root()
    if not dry:
        _room(target, size)
        with only_writer(target):
            _download(hub, repository, files, target)
    told = {"repository": repository, "licence": listed.licence, "bytes": size, "files": sorted(files)}
    where = "nothing was downloaded (--dry)" if dry else f"in {target}; evaluate with --data {data}"
    return CommandResult(
        lines=[said, f"licence: {licence}", where], data={**told, "folder": str(target), "fetched": not dry}
    )


def _download(hub: Hub, repository: str, files: Mapping[str, int], target: Path) -> None:
    """Put what is not there yet into ``target``. Files come into a folder of their own first: none is half there.

    Raises ConfigError, RunError, DiskError.
    """
    arriving = target / _ARRIVING
    try:
        arriving.mkdir(parents=True, exist_ok=True)
        checksums = Checksums(target)
        wanted = sorted(name for name, size in files.items() if _comes(target / name, name, size, checksums))
        if wanted:
            hub.download(repository, wanted, arriving)
        if missing := [name for name in wanted if not (arriving / name).is_file()]:
            raise RunError(f"{repository}: {missing[0]} did not arrive in {target}")
        for name in wanted:
            checksums.publish(arriving / name, name)
        shutil.rmtree(arriving)
    except OSError as error:
        raise DiskError(f"{target}: {error.strerror or error}; the same command goes on from what is there") from None


def _comes(path: Path, name: str, size: int, checksums: Checksums) -> bool:
    """Whether a file is to be fetched. Raises ConfigError for one that is there and is not the hub's."""
    if not path.exists():
        return True
    advice = "nothing is replaced. Move it away, and the same command fetches it"
    if not checksums.lists(name):
        if path.stat().st_size == size:  # a copy that somebody brought
            return False
        raise ConfigError(f"{path}: a file that we did not fetch, and of another size than the hub's; {advice}")
    if not checksums.same(name):
        raise ConfigError(f"{path}: was changed since it was fetched; {advice}")
    return path.stat().st_size != size


def files_of(config: str | None, stem: str, files: Mapping[str, int]) -> list[str]:
    """Paths of one split, looked for where reading will look for them. Raises RunError when there are none."""
    wanted = re.compile(rf"{re.escape(stem)}(-.*)?\.parquet")
    folders = [config, f"{config}/data", "", "data"] if config else ["", "data"]
    for folder in folders:
        found = [p for p in files if p.rpartition("/")[0] == folder and wanted.fullmatch(p.rpartition("/")[2])]
        if found:
            return sorted(found)
    held = sorted({path.rpartition("/")[0] or "." for path in files if path.endswith(".parquet")})
    raise RunError(f"no files of the split {stem!r} in {', '.join(f or '.' for f in folders)}; tables lie in {held}")


def _room(target: Path, size: int) -> None:
    """Raises DiskError where the files do not fit."""
    place = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise DiskError(f"{target}: {size / 1e9:.1f} GB wanted and {free / 1e9:.1f} GB free")
