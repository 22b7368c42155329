"""Everything that we write has the mode that the umask asks for, so that a colleague may read it, or may not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lab_toys import COMMAND, pictures, singles

from ommatidia.core.console import Console, use
from ommatidia.core.source import SourceConfig
from ommatidia.data.shard_writer import write_shards
from ommatidia.lab.drive import drive_search
from ommatidia.lab.nodes.store import Store
from ommatidia.models.published.exporting import export_checkpoint
from ommatidia.models.published.importing import import_checkpoint
from ommatidia.models.shards import ShardWriter
from ommatidia.models.tensors import save_tensors
from ommatidia.train.checkpoint import Checkpoints


@pytest.fixture(params=[0o022, 0o027], ids=["umask 022", "umask 027"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def wrong(folder: Path, umask: int) -> list[str]:
    """Files and folders with another mode; a lock is no result."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if not p.name.endswith(".lock")):
        wanted = (0o777 if path.is_dir() else 0o666) & ~umask
        if path.stat().st_mode & 0o777 != wanted:
            found.append(f"{path.relative_to(folder)}: {path.stat().st_mode & 0o777:o}, expected {wanted:o}")
    return found


def test_a_search_and_what_is_made_of_its_model(umask: int, tmp_path: Path) -> None:
    out, store = tmp_path / "out", Store(tmp_path / "store")
    with use(Console(quiet=True)):
        drive_search(singles(), store, out=out, command=COMMAND)
    model = out / "model"
    (model / "model.safetensors").chmod(0o600)  # what older versions left
    export_checkpoint(model, tmp_path / "exported")
    import_checkpoint(model, tmp_path / "imported")
    (model / "model.safetensors").chmod(0o666 & ~umask)
    assert wrong(tmp_path, umask) == []
    assert {path.name for path in (tmp_path / "store").rglob("*.safetensors")} >= {
        "trained.safetensors",
        "model.safetensors",
    }
    assert (out / "report.html").is_file()


def test_every_writer_of_tensors(umask: int, tmp_path: Path) -> None:
    tensor = torch.zeros(4)
    save_tensors({"a": tensor}, tmp_path / "a.safetensors")
    (tmp_path / "shards").mkdir()
    writer = ShardWriter(tmp_path / "shards", largest=16)
    for name in ("a", "b"):
        writer.add(name, tensor)
    writer.close()
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) == 2
    Checkpoints(tmp_path / "run", best=True).save(1, {"trained": {"a:b": tensor}}, {"step": 1}, loss=1.0)
    assert list((tmp_path / "run").rglob("*.safetensors"))
    assert wrong(tmp_path, umask) == []


def test_data_in_shards(umask: int, tmp_path: Path) -> None:
    source = SourceConfig.parse(pictures("counts"))
    made = list(write_shards(source.open(), tmp_path / "shards", per_shard=4, fingerprint="f"))
    assert made
    assert wrong(tmp_path, umask) == []
