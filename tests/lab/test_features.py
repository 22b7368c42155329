"""Stored features: what the trunk gives, in 16 bits, by image; broken images by name; a stop loses no row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lab_toys import COARSE, FINE, VIT, pictures, recipe
from PIL import Image
from torch import Tensor

from ommatidia.core.console import Console, use
from ommatidia.core.errors import DataError, RunError
from ommatidia.core.source import SourceConfig
from ommatidia.lab.nodes import features
from ommatidia.lab.nodes.features import FeatureJob, joined
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.processor import Processor, preprocess_for
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.models.vision.tiling import TilingConfig


def job_of(source: dict[str, Any], encoder: dict[str, Any] = VIT) -> FeatureJob:
    return FeatureJob("eye", EncoderConfig.parse(encoder), SourceConfig.parse(source), "fp32")


def carry_out(job: FeatureJob, store: Store) -> None:
    with use(Console(quiet=True)), store.writing():
        result = execute(Plan([], {job.key: job}), store)
    assert result.failed == {}


def images(folder: Path) -> dict[str, Any]:
    """A conversation file over five images, one of them torn."""
    for number in range(5):
        Image.new("RGB", (20, 20), (50 * number, 9, 9)).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:40])
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}]
    records = [{"id": str(n), "image": f"{n}.png", "conversations": turns} for n in range(5)]
    (folder / "data.json").write_text(json.dumps(records))
    return {"kind": "llava_json", "path": str(folder / "data.json"), "image_root": str(folder)}


def test_what_is_stored_is_what_the_trunk_gives(store_folder: Path) -> None:
    store, job = Store(store_folder), job_of(pictures("counts", count=4))
    carry_out(job, store)
    look = job.lookup(store)
    encoder, prepare = job.encoder.build().eval(), job.encoder.preprocess()
    for picture in features.pictures_of(job.source, tolerant=False):
        with torch.no_grad():
            x_HWD = encoder.features(prepare(picture.open())[None])[0]
        (stored,) = look(picture.digest)
        assert stored.dtype == torch.float16
        torch.testing.assert_close(stored, x_HWD.half(), rtol=1e-2, atol=1e-2)
    with pytest.raises(RunError, match=r"features of eye on drawn counts .*: no stored features for image 0000"):
        look("0000")


def shapes(folder: Path) -> dict[str, Any]:
    """A conversation file over images of unlike shapes, the third of them torn behind its header."""
    sizes = [(64, 32), (32, 32), (32, 96), (20, 60), (100, 20)]
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}]
    for number, size in enumerate(sizes):
        noise = torch.randint(0, 256, (*size, 3), generator=torch.Generator().manual_seed(number)).to(torch.uint8)
        Image.fromarray(noise.numpy()).save(folder / f"{number}.bmp")
    torn = folder / "2.bmp"
    torn.write_bytes(torn.read_bytes()[:400])
    records = [{"id": str(n), "image": f"{n}.bmp", "conversations": turns} for n in range(len(sizes))]
    (folder / "data.json").write_text(json.dumps(records))
    return {"kind": "llava_json", "path": str(folder / "data.json"), "image_root": str(folder)}


TILING = {"kind": "dynamic", "tile": 16, "max_tiles": 3, "whole": ["canvas"]}


@pytest.mark.parametrize("name", ["eye", "canvas"])
def test_every_view_has_its_row(name: str, store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SourceConfig.parse(shapes(tmp_path))
    tiling = TilingConfig.parse(TILING)
    store, job = (
        Store(store_folder),
        FeatureJob(name, EncoderConfig.parse(FINE), source, "fp32", tiling=tiling),
    )
    monkeypatch.setattr(features, "_BATCH", 4)
    carry_out(job, store)
    look, encoder = job.lookup(store), job.encoder.build().eval()
    prepare = preprocess_for(tiling, name, job.encoder)
    found = features.pictures_of(source, tolerant=True)
    views = [1, 1, 1, 1, 1] if name == "canvas" else [3, 1, 4, 4, 4]
    with pytest.raises(DataError, match=r"2\.bmp"):
        look(found[2].digest)
    for number in (0, 1, 3, 4):
        image = found[number].open()
        seen = [tiling.canvas(image)] if name == "canvas" else tiling.cut(image)
        with torch.no_grad():
            x_KHWD = encoder.features(torch.stack([prepare(view) for view in seen]))
        assert len(x_KHWD) == views[number]
        torch.testing.assert_close(look(found[number].digest), x_KHWD.half(), rtol=1e-2, atol=1e-2)
    notes = store.record(job.kind, job.key)["notes"]
    assert (notes["pictures"], notes.get("views", 5)) == (5, sum(views))
    trunk = job.encoder.trunk_cost().flops
    assert job.price().flops == trunk * sum(views)
    assert job.price().bytes == 2 * sum(views) * job.encoder.trunk_grid().values


def test_a_model_reads_its_stored_views_as_it_sees_them(store_folder: Path, tmp_path: Path) -> None:
    store, source = Store(store_folder), SourceConfig.parse(shapes(tmp_path))
    model = recipe("coarse", "fine").model
    tiling = TilingConfig.parse({**TILING, "whole": ["fine"]})
    cfg = MLLMConfig.parse({**model.to_dict(), "tiling": tiling.to_dict()})
    jobs = [FeatureJob(name, encoder, source, "fp32", tiling=tiling) for name, encoder in cfg.encoders.items()]
    for job in jobs:
        carry_out(job, store)
    pixels, stored = Processor(cfg), Processor(cfg, features={job.name: job.lookup(store) for job in jobs})
    seeing = build_model(cfg, seed=0).eval()
    records = [record for record in source.open() if record.id != "2"]
    with torch.no_grad():
        plain = seeing.encode(pixels.collate([pixels(one) for one in records]))
        again = seeing.encode(stored.collate([stored(one) for one in records]))
    for name in cfg.encoders:
        assert plain[name].shape[0] == 3 + 1 + 4 + 4
        torch.testing.assert_close(plain[name], again[name], rtol=1e-2, atol=1e-2)


def test_a_broken_picture_is_stored_as_its_error(store_folder: Path, tmp_path: Path) -> None:
    store, job = Store(store_folder), job_of(images(tmp_path), COARSE)
    carry_out(job, store)
    (bad,) = store.record(job.kind, job.key)["notes"]["refused"]
    look = job.lookup(store)
    with pytest.raises(DataError, match=r"3\.png: "):
        look(bad)
    found = [p.digest for p in features.pictures_of(job.source, tolerant=True)]
    assert len(found) == 5
    values = [look(digest)[0, 0, 0, 0].item() for digest in found if digest != bad]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_a_stopped_job_goes_on_behind_its_last_row(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pictures("counts", count=70)
    store, job = Store(store_folder), job_of(source, FINE)
    other = Store(store_folder.parent / "undisturbed")
    carry_out(job, other)
    trunk, seen = features._trunk, []

    def stopping(encoder: Any, pixels: Tensor, precision: str) -> Tensor:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return trunk(encoder, pixels, precision)

    monkeypatch.setattr(features, "_trunk", stopping)
    with pytest.raises(KeyboardInterrupt):
        carry_out(job, store)
    assert not store.has(job.kind, job.key)
    seen.clear()
    carry_out(job, store)
    assert seen == [70 - 64]
    for name in ("features.npy", "index.json"):
        assert (job.folder(store) / name).read_bytes() == (job.folder(other) / name).read_bytes()


def test_one_lookup_over_several_sources(store_folder: Path) -> None:
    store = Store(store_folder)
    jobs = [job_of(pictures(task, count=2), COARSE) for task in ("counts", "attributes")]
    for job in jobs:
        carry_out(job, store)
    look = joined([job.lookup(store) for job in jobs])
    for job in jobs:
        for picture in features.pictures_of(job.source, tolerant=False):
            assert torch.equal(look(picture.digest), job.lookup(store)(picture.digest))
    with pytest.raises(RunError, match="no stored features"):
        look("0000")


def test_the_key_is_of_the_trunk_and_the_content_not_of_the_neck_or_the_name() -> None:
    one = job_of(pictures("counts"))
    renamed = FeatureJob("other", one.encoder, one.source, "fp32")
    assert renamed.key == one.key
    assert job_of(pictures("counts"), {**VIT, "neck": "none"}).key == one.key
    cut = FeatureJob("eye", one.encoder, one.source, "fp32", tiling=TilingConfig.parse(TILING))
    tagged = FeatureJob("eye", one.encoder, one.source, "fp32", tiling=TilingConfig.parse({**TILING, "tags": "box"}))
    assert tagged.key == cut.key, "tags are words: they change no pixel"
    unpadded = FeatureJob("eye", one.encoder, one.source, "fp32", tiling=TilingConfig.parse("unpad"))
    assert unpadded.key == one.key, "the view is the same, only fewer of its tokens are read"
    different = [
        cut,
        FeatureJob("canvas", one.encoder, one.source, "fp32", tiling=TilingConfig.parse(TILING)),
        job_of(pictures("counts", count=7)),
        job_of(pictures("counts", "test")),
        job_of(pictures("counts"), {**VIT, "image_size": 48}),
        job_of(pictures("counts"), {**VIT, "fit": "stretch"}),
        job_of(pictures("counts"), {**VIT, "weights": {"kind": "random", "seed": 1}}),
        FeatureJob("eye", one.encoder, one.source, "bf16"),
        FeatureJob("eye", one.encoder, one.source, "fp32", threads=1),
        FeatureJob("eye", one.encoder, one.source, "fp32", device="cuda"),
    ]
    assert len({one.key, *(job.key for job in different)}) == 11
