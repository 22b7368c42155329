"""Blends: counts, epochs, caps, temperature, categories; exact over blocks, and told before anything is read."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ommatidia.core.errors import ConfigError
from ommatidia.data.blend import LARGEST_BLOCK, places_of
from ommatidia.data.manifest import manifests, read
from ommatidia.data.mixture import MixtureConfig
from ommatidia.train.stage import Stage


def blended(sizes: dict[str, int], fields: dict[str, dict[str, Any]] | None = None, **shares: Any) -> MixtureConfig:
    """Drawn sources of such sizes; ``fields`` of one of them by name."""
    sources = {
        name: {"source": {"kind": "drawn_words", "pictures": size, "per_picture": 1}, **(fields or {}).get(name, {})}
        for name, size in sizes.items()
    }
    return MixtureConfig.parse({"sources": sources, **shares})


def located(config: MixtureConfig, begin: int, end: int, *, seed: int = 0) -> list[tuple[str, int]]:
    mix = config.open()
    return [mix.locate(position, seed=seed) for position in range(begin, end)]


def test_counts_are_exact_in_every_epoch() -> None:
    config = blended({"a": 20, "b": 5, "c": 30}, {"a": {"count": 7}, "b": {"count": 12}})
    assert config.open().size == 7 + 12 + 30
    for epoch in range(3):
        drawn = located(config, epoch * 49, (epoch + 1) * 49)
        assert Counter(name for name, _ in drawn) == {"a": 7, "b": 12, "c": 30}
        own = Counter(record for name, record in drawn if name == "b")
        assert set(own.values()) <= {2, 3}  # 12 of 5: every record two or three times
    seen = [record for name, record in located(config, 0, 3 * 49) if name == "a"]
    assert len(set(seen[:20])) == 20  # what an epoch leaves out comes in the next


def test_epochs_of_a_source_count_in_an_epoch_of_the_mixture() -> None:
    config = blended({"good": 10, "noisy": 40, "plain": 8}, {"good": {"epochs": 3}, "noisy": {"epochs": 0.1}})
    drawn = located(config, 0, 42)
    assert config.open().size == 42
    assert Counter(drawn)[("good", 0)] == 3
    assert Counter(name for name, _ in drawn) == {"good": 30, "noisy": 4, "plain": 8}
    tiny = blended({"a": 3, "b": 3}, {"a": {"epochs": 0.01}})
    assert tiny.divide({"a": 3, "b": 3}).offered == {"a": 1, "b": 3}


def test_a_cap_limits_every_source() -> None:
    config = blended({"big": 50, "small": 6}, {"small": {"epochs": 4}}, cap=10)
    assert config.divide({"big": 50, "small": 6}).offered == {"big": 10, "small": 10}
    assert Counter(name for name, _ in located(config, 0, 20)) == {"big": 10, "small": 10}
    assert len({record for name, record in located(config, 0, 100) if name == "big"}) == 50


@pytest.mark.parametrize(("temperature", "ratio"), [(1, 16), (2, 4), (4, 2), (0.5, 256), (1e9, 1)])
def test_temperature_flattens(temperature: float, ratio: float) -> None:
    division = blended({"a": 16, "b": 1}, temperature=temperature).divide({"a": 16, "b": 1})
    assert division.places["a"] / division.places["b"] == pytest.approx(ratio, rel=1e-3)
    assert division.epoch == 17


def test_categories_have_their_shares_and_sizes_count_within() -> None:
    sizes = {"a": 30, "b": 10, "c": 999}
    fields = {"a": {"category": "eyes"}, "b": {"category": "eyes"}, "c": {"category": "words"}}
    config = blended(sizes, fields, categories={"eyes": 91, "words": 9}, epoch=400)
    division = config.divide(sizes)
    shares = {name: Fraction(places, division.block) for name, places in division.places.items()}
    assert shares == {"a": Fraction(273, 400), "b": Fraction(91, 400), "c": Fraction(9, 100)}
    assert config.open().size == 400
    assert Counter(name for name, _ in located(config, 400, 800)) == {"a": 273, "b": 91, "c": 36}
    without = blended(sizes, fields, categories={"eyes": 1, "words": 0})
    assert without.open().names == ("a", "b")
    assert without.fingerprint() == blended(sizes, fields, categories={"eyes": 1, "words": 0}).fingerprint()
    assert without.fingerprint() != blended(sizes, fields, categories={"eyes": 1, "words": 1}).fingerprint()


def test_mm1() -> None:
    """45 % captions, 45 % documents, 10 % text: exact over every 20 samples, in any order of asking."""
    config = blended(
        {"captions": 5, "documents": 7, "text": 3},
        {"captions": {"weight": 45}, "documents": {"weight": 45}, "text": {"weight": 10}},
    )
    stream = located(config, 0, 400, seed=5)
    for begin in range(0, 400, 20):
        names = Counter(name for name, _ in stream[begin : begin + 20])
        assert names == {"captions": 9, "documents": 9, "text": 2}
    again = config.open()
    assert [again.locate(position, seed=5) for position in reversed(range(400))] == stream[::-1]


def test_drawn_is_counted_not_estimated() -> None:
    sizes = {"a": 11, "b": 23, "c": 2}
    for config in (blended(sizes), blended(sizes, cap=5), blended(sizes, temperature=3), blended(sizes, epoch=9)):
        for samples in (0, 1, 7, 36, 100):
            names = Counter(name for name, _ in located(config, 0, samples, seed=3))
            assert config.divide(sizes).drawn(samples, seed=3) == {name: names[name] for name in sizes}


def test_small_shares_are_not_blown_up() -> None:
    counts = places_of([7_000_000, 500, 1_000_001])
    assert sum(counts) == LARGEST_BLOCK
    assert counts[1] / sum(counts) == pytest.approx(500 / 8_000_501, rel=0.1)
    assert places_of([0.0, 2.0, 0.0, 1.0]) == (0, 2, 0, 1)
    assert places_of([0.0, 3.14159, 2.71828])[0] == 0


def test_a_weight_of_nothing_leaves_a_source_out() -> None:
    config = blended({"a": 4, "b": 5}, {"a": {"weight": 0}, "b": {"weight": 2}})
    assert config.open().names == ("b",)
    assert {name for name, _ in located(config, 0, 50)} == {"b"}


@pytest.mark.parametrize(
    ("fields", "shares", "said"),
    [
        ({"a": {"weight": 0}, "b": {"weight": 0}}, {}, "the weights of a, b sum to 0"),
        ({}, {"cap": 0}, "cap: Input should be greater than or equal to 1"),
        ({"a": {"weight": 1}, "b": {"weight": 1}}, {"cap": 3}, "cap: weights are shares whatever is offered"),
        ({"a": {"weight": 1}, "b": {"weight": 1}}, {"temperature": 2}, "give one of weight and temperature"),
        ({"a": {"weight": 1, "count": 3}}, {}, "weight and count are given; expected one of"),
        ({"a": {"category": "x"}}, {"categories": {"x": 1}}, r"sources\.b\.category is missing; one of x"),
        ({"a": {"category": "eyes"}, "b": {"category": "eye"}}, {"categories": {"eyes": 1}}, "did you mean 'eyes'"),
        (
            {"a": {"category": "x"}, "b": {"category": "x"}},
            {"categories": {"x": 1, "y": 2}},
            r"categories\.y: a share of 2, but no source",
        ),
        (
            {"a": {"category": "x"}, "b": {"category": "x"}},
            {"categories": {"x": 0}},
            "the shares of x sum to 0",
        ),
    ],
)
def test_what_cannot_be_blended(fields: dict[str, Any], shares: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        blended({"a": 4, "b": 5}, fields, **shares)


def test_a_stage_counts_epochs_of_the_blend() -> None:
    config = blended({"a": 20, "b": 5}, cap=7)
    stage = Stage(name="s", train={"projector": 1e-3}, data=config, epochs=2, batch=4)
    assert stage.total_steps(config.open().size) == 6  # 2 * (7 + 5) / 4


@pytest.mark.parametrize(
    ("name", "mix", "total"),
    [
        ("eagle_1_8m", None, 1_813_000),
        ("eagle_1_8m", "exploration", 933_000),
        ("cambrian_10m", "7m", 7_055_500),
        ("cambrian_10m", "10m", 9_745_500),
        ("cambrian_10m", "t150k", 3_861_500),
        ("cambrian_10m", "t250k", 5_012_500),
        ("cambrian_10m", "t350k", 5_776_500),
        ("cambrian_10m", "t450k", 6_426_500),
        ("cambrian_10m", "exp5", 1_350_000),
    ],
)
def test_manifests_add_up(name: str, mix: str | None, total: int) -> None:
    """Against the sums that the studies' readers worked out of the same tables."""
    config = read(name).mixture(Path("data"), mix=mix)
    sizes = {source: weighted.source.published_size() or 0 for source, weighted in config.sources.items()}
    assert config.divide(sizes).epoch == total


def test_cambrian_ratio_is_what_was_asked() -> None:
    manifest = read("cambrian_10m")
    config = manifest.mixture(Path("data"), mix="exp5")
    sizes = {name: listed.records or 0 for name, listed in manifest.sources.items()}
    division = config.divide(sizes)
    shares: Counter[str] = Counter()
    for name, places in division.places.items():
        shares[manifest.sources[name].category] += places / division.block
    for category, asked in (config.categories or {}).items():
        assert shares[category] == pytest.approx(asked / 100.4, abs=2e-4)


def test_every_manifest_is_a_mixture_of_files(tmp_path: Path) -> None:
    for name, manifest in manifests().items():
        for mix in manifest.mixes:
            config = manifest.mixture(tmp_path, mix=mix)
            assert MixtureConfig.parse(config.to_dict()) == config
            assert all(weighted.source.absent() for weighted in config.used().values()), name
    (tmp_path / "docvqa.json").write_text("[]")
    source = read("eagle_1_8m").mixture(tmp_path).sources
    assert [source[name].source.describe() for name in ("docvqa", "ai2d")] == ["docvqa.json", "ai2d.jsonl"]
    with pytest.raises(ConfigError, match="did you mean 'eagle_1_8m'"):
        read("eagle_18m")
    with pytest.raises(ConfigError, match="unknown mix 'explore'; did you mean 'exploration'"):
        read("eagle_1_8m").mixture(tmp_path, mix="explore")
