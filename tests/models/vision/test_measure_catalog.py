"""The stored measures of the catalog are those of the catalog as it is now."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ommatidia.models.vision import CATALOG, measure_catalog, measurements
from ommatidia.models.vision.catalog import Card
from ommatidia.models.vision.encoder import EncoderConfig, shape_digest


def untouchable(card: Card | EncoderConfig) -> measure_catalog.Measure:
    raise AssertionError(f"measured live: {card}")


def test_the_file_covers_the_whole_catalog_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_catalog, "take", untouchable)
    for name, card in CATALOG.items():
        found = measure_catalog.known(name, card)
        assert found.grid.values > 0, name
        assert found.cost.flops > 0, name
    stored = json.loads(measurements.PATH.read_text(encoding="utf-8"))
    assert list(stored) == [*CATALOG, *measure_catalog.SIZES], "run python -m ommatidia.models.vision.measure_catalog"


@pytest.mark.parametrize(
    "name",
    ["efficientnet_lite0", "craft", "patches", "clip_l_14_336", "dpt_beit_large_512", "internvit_6b_448", "radio_v3_l"],
)
def test_what_is_stored_is_what_is_measured(name: str) -> None:
    assert measure_catalog.known(name, CATALOG[name]) == measure_catalog.take(CATALOG[name])


def test_a_config_finds_its_own_measure_whatever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = EncoderConfig.parse({**CATALOG["clip_l_14_336"].encoder, "fit": "pad_first", "weights": "random"})
    monkeypatch.setattr("ommatidia.models.vision.encoder.shape_and_cost", untouchable)
    assert (str(cached.trunk_grid()), cached.trunk_cost().parameters) == ("24x24x1024", 290909184)
    with pytest.raises(AssertionError, match="measured live"):
        cached.model_copy(update={"features": -3}).trunk_grid()


@pytest.mark.parametrize("name", measure_catalog.SIZES)
def test_sizes_of_the_studies_are_stored_as_their_configs_ask_for_them(name: str) -> None:
    found = measurements.stored(shape_digest(EncoderConfig.parse(name)))
    assert found is not None, "run python -m ommatidia.models.vision.measure_catalog"


def test_a_changed_or_new_entry_is_measured_now() -> None:
    card = CATALOG["patches"]
    changed = dataclasses.replace(card, encoder={**card.encoder, "image_size": 64})
    assert measure_catalog.known("patches", changed).pixels == (64, 64)
    assert str(measure_catalog.known("patches", changed).grid) == "4x4x768"
    assert measure_catalog.known("a name nobody stored", card) == measure_catalog.known("patches", card)


def test_what_is_written_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: CATALOG[name] for name in ("patches", "efficientnet_lite0")}
    monkeypatch.setattr(measure_catalog, "CATALOG", few)
    measure_catalog.write(tmp_path / "few.json")
    stored = json.loads(measurements.PATH.read_text(encoding="utf-8"))
    wanted = {name: entry for name, entry in stored.items() if name.partition("@")[0] in few}
    assert json.loads((tmp_path / "few.json").read_text(encoding="utf-8")) == wanted
    assert len(wanted) > len(few)  # other sizes of an entry come with it


def test_only_what_changed_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, few = tmp_path / "few.json", {name: CATALOG[name] for name in ("patches", "efficientnet_lite0")}
    monkeypatch.setattr(measure_catalog, "CATALOG", few)
    lite = ["efficientnet_lite0", "efficientnet_lite0@128", "efficientnet_lite0@64"]
    assert measure_catalog.write(path) == ["patches", *lite]
    assert measure_catalog.write(path) == []
    few["patches"] = dataclasses.replace(few["patches"], encoder={**few["patches"].encoder, "image_size": 64})
    assert measure_catalog.write(path) == ["patches"]
    assert json.loads(path.read_text(encoding="utf-8"))["patches"]["pixels"] == [64, 64]
    assert measure_catalog.write(path, everything=True) == ["patches", *lite]
