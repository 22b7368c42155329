"""Fetch a published benchmark from the Hugging Face hub: the one command that downloads anything, and only when run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DiskError, RunError
from ommatidia.eval.benchmarks import Published
from ommatidia.lab.driven import Driven
from ommatidia.lab.scoring import read_benchmark


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


def fetch(name: str, *, data: Path, split: str | None, dry: bool, hub: Hub | None = None) -> Driven:
    """Say licence and size of one split of a benchmark, then download its files below ``data``.

    ``dry`` only says them. ``split`` may be one that only lends examples, such as train. Raises ConfigError for a
    benchmark that is not published, RunError where the hub has no such files, DiskError where they do not fit.
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
        hub.download(repository, sorted(files), target)
        if missing := [path for path in files if not (target / path).is_file()]:
            raise RunError(f"{repository}: {missing[0]} did not arrive in {target}")
    told = {"repository": repository, "licence": listed.licence, "bytes": size, "files": sorted(files)}
    where = "nothing was downloaded (--dry)" if dry else f"in {target}; evaluate with --data {data}"
    return Driven(lines=[said, f"licence: {licence}", where], data={**told, "folder": str(target), "fetched": not dry})


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
