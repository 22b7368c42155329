"""Fetching: what would come is said first, only the split's files come, and they lie where reading looks for them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from published_fixtures import FILES, write

from ommatidia.core.errors import ConfigError, DiskError, RunError
from ommatidia.core.file_lock import only_writer
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.lab.data.fetch import HuggingFace, Listed, fetch
from ommatidia.lab.saved.scoring import read_benchmark


class Copied:
    """A hub that holds the made-up copies and files that nobody asked for."""

    def __init__(self, folder: Path, *, size: int | None = None, lossy: bool = False) -> None:
        self.folder, self.size, self.lossy = folder, size, lossy
        self.downloads: list[list[str]] = []

    def _at(self, repository: str) -> Path:
        return self.folder / repository.rpartition("/")[2]

    def listed(self, repository: str) -> Listed:
        at = self._at(repository)
        files = {p.relative_to(at).as_posix(): self.size or p.stat().st_size for p in at.rglob("*") if p.is_file()}
        return Listed("cc-by-4.0", {**files, "README.md": 10, "data/unwanted-00000-of-00001.parquet": 5})

    def download(self, repository: str, files: Sequence[str], folder: Path) -> None:
        self.downloads.append(list(files))
        for file in files[: 0 if self.lossy else None]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._at(repository) / file, folder / file)


@pytest.mark.parametrize("name", FILES)
def test_what_comes_can_be_read(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    size = write(name, tmp_path / "hub")
    hub = Copied(tmp_path / "hub")
    done = fetch(name, data=tmp_path / "data", split=None, dry=False, hub=hub)
    assert (done.data["licence"], done.data["fetched"]) == ("cc-by-4.0", True)
    assert hub.downloads == [done.data["files"]]
    assert len(done.data["files"]) == (2 if name == "gqa" else 1)
    assert done.lines[1] == "licence: cc-by-4.0"
    config = read_benchmark({**BENCHMARKS[name], "size": size}, data=str(tmp_path / "data"))
    assert len(config.open().samples()) == size


def test_it_can_only_say(tmp_path: Path) -> None:
    write("pope", tmp_path / "hub")
    hub = Copied(tmp_path / "hub", size=2_500_000)
    done = fetch("pope", data=tmp_path / "data", split=None, dry=True, hub=hub)
    assert (hub.downloads, (tmp_path / "data").exists()) == ([], False)
    assert done.lines[0].endswith("lmms-lab/POPE, split test, 1 files, 2.5 MB")


def test_what_cannot_be_fetched(tmp_path: Path) -> None:
    write("pope", tmp_path / "hub")
    hub = Copied(tmp_path / "hub")
    with pytest.raises(ConfigError, match="words: it is made here"):
        fetch("words", data=tmp_path, split=None, dry=False, hub=hub)
    with pytest.raises(ConfigError, match="did you mean 'pope'"):
        fetch("popee", data=tmp_path, split=None, dry=False, hub=hub)
    with pytest.raises(RunError, match="no files of the split 'train'"):
        fetch("pope", data=tmp_path, split="train", dry=False, hub=hub)
    with pytest.raises(DiskError, match="GB wanted"):
        fetch("pope", data=tmp_path, split=None, dry=False, hub=Copied(tmp_path / "hub", size=10**18))
    with pytest.raises(RunError, match="did not arrive"):
        fetch("pope", data=tmp_path / "data", split=None, dry=False, hub=Copied(tmp_path / "hub", lossy=True))


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    write("pope", tmp_path / "hub")
    hub, data = Copied(tmp_path / "hub"), tmp_path / "data"

    def again() -> None:
        fetch("pope", data=data, split=None, dry=False, hub=hub)

    again()
    (place,) = data.rglob("*.parquet")
    again()
    assert len(hub.downloads) == 1  # nothing to fetch
    assert sorted(path.name for path in place.parents[1].iterdir()) == ["SHA256SUMS", "data"]
    content = place.read_bytes()
    place.write_bytes(content + b"edited")
    with pytest.raises(ConfigError, match=r"parquet: was changed since it was fetched; nothing is replaced"):
        again()
    assert place.read_bytes() == content + b"edited"
    (place.parents[1] / "SHA256SUMS").unlink()
    with pytest.raises(ConfigError, match=r"parquet: a file that we did not fetch, and of another size"):
        again()
    place.write_bytes(content)  # a copy that somebody brought
    again()
    assert len(hub.downloads) == 1
    with only_writer(place.parents[1]), pytest.raises(RunError, match="another process is writing it"):
        again()


def test_the_package_of_the_hub(tmp_path: Path, monkeypatch: Any) -> None:
    called: dict[str, Any] = {}

    class ClientError(Exception):
        """Of the client, and no OSError."""

    class HubError(ClientError, OSError): ...

    class LostError(ClientError): ...

    class Api:
        def dataset_info(self, repository: str, *, files_metadata: bool) -> Any:
            if repository == "no/where":
                raise OSError("offline\nmore")
            if repository == "lost/line":
                raise LostError
            files = [SimpleNamespace(rfilename="data/test.parquet", size=3)]
            return SimpleNamespace(card_data=SimpleNamespace(license=["mit", "x"]), siblings=files)

    def snapshot_download(repository: str, **given: Any) -> None:
        called.update(given, repository=repository)

    fake = SimpleNamespace(HfApi=Api, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", SimpleNamespace(HfHubHTTPError=HubError))
    assert HuggingFace().listed("a/b") == Listed("mit, x", {"data/test.parquet": 3})
    HuggingFace().download("a/b", ["data/test.parquet"], tmp_path)
    assert called == {
        "repository": "a/b", "repo_type": "dataset", "local_dir": tmp_path, "allow_patterns": ["data/test.parquet"],
    }  # fmt: skip
    with pytest.raises(RunError, match=r"^no/where: offline$"):
        HuggingFace().listed("no/where")
    with pytest.raises(RunError, match="lost/line: LostError"):
        HuggingFace().listed("lost/line")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="needs the package huggingface_hub"):
        HuggingFace().listed("a/b")
