"""The stream: right shares, whole permutations, nothing but (seed, position) in it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest
from PIL import Image

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.picture import DrawnPicture
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Message, Sample
from ommatidia.data.mixture import Mixture, MixtureConfig, Weighted
from ommatidia.data.synthetic import DrawnCounts, DrawnWords


class Listed:
    """``count`` records named after their place; the listed ones are bad."""

    def __init__(self, name: str, count: int, bad: Sequence[int] = ()) -> None:
        self.name, self.count, self.bad = name, count, bad

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise DataError("broken")
        picture = DrawnPicture(f"{self.name}{index // 2}", lambda: Image.new("RGB", (4, 4)), (4, 4))
        return Sample(f"{self.name}{index}", (Message("user", ("?",)), Message("assistant", ("!",))), (picture,))


class EmptySource(SourceConfig):
    """Opens and holds nothing."""

    kind: Literal["test_empty"] = "test_empty"

    def open(self) -> Listed:
        return Listed("e", 0)


def mixture(*, weights: Sequence[float] | None = None, tolerance: float = 0.0, **counts: int) -> Mixture:
    return Mixture({n: Listed(n, c) for n, c in counts.items()}, weights=weights, tolerance=tolerance)


def stream(mix: Mixture, begin: int, end: int, *, seed: int = 0) -> list[str]:
    return [mix.draw(position, seed=seed).id for position in range(begin, end)]


def test_unweighted_epochs_are_permutations_of_all_records() -> None:
    mix = mixture(a=30, b=7, c=100)
    assert mix.size == 137
    epochs = [stream(mix, k * 137, (k + 1) * 137) for k in range(3)]
    assert all(len(set(epoch)) == 137 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_weights_are_shares_whatever_the_sizes() -> None:
    mix = mixture(a=5, b=1000, weights=[3.0, 1.0])
    assert Counter(name[0] for name in stream(mix, 0, 4000)) == {"a": 3000, "b": 1000}
    # Every window is close to the share: stratified, not a coin thrown each time.
    for begin in range(0, 4000, 100):
        assert abs(Counter(name[0] for name in stream(mix, begin, begin + 100))["a"] - 75) <= 3


@pytest.mark.parametrize("weights", [[0.2, 0.3, 0.5], [1.0, 1e-6, 1.0], [3.14159, 2.71828, 0.57721], [1.0, 1.0, 7.0]])
def test_odd_weights_are_near_enough(weights: list[float]) -> None:
    mix = mixture(a=10, b=10, c=10, weights=weights)
    for places, weight in zip(mix.places, weights, strict=True):
        assert places >= 1
        assert abs(places / mix.block - weight / sum(weights)) <= 1 / 4096 + 1e-9
    assert mix.block <= 2**17 + 2


def test_each_source_shows_every_record_before_any_twice() -> None:
    mix = mixture(a=11, b=23, weights=[2.0, 1.0])
    drawn = stream(mix, 0, 600)
    for name, count in (("a", 11), ("b", 23)):
        own = [record for record in drawn if record[0] == name]
        epochs = [own[k : k + count] for k in range(0, len(own) - count, count)]
        assert all(len(set(epoch)) == count for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)  # and each time in another order


def test_draw_is_a_pure_function_of_seed_and_position() -> None:
    mix = mixture(a=50, b=20, weights=[1.0, 2.0])
    straight = stream(mix, 0, 500, seed=3)
    places = list(range(500))
    random.Random(1).shuffle(places)
    again = mixture(a=50, b=20, weights=[1.0, 2.0])
    assert {place: again.draw(place, seed=3).id for place in places} == dict(enumerate(straight))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda place: mix.draw(place, seed=3).id, range(500))) == straight
    assert stream(mix, 0, 500, seed=4) != straight
    assert [mix.locate(p, seed=3) for p in range(9)] == [again.locate(p, seed=3) for p in range(9)]


def test_far_positions_cost_nothing() -> None:
    mix = mixture(a=50, b=20, weights=[1.0, 2.0])
    assert mix.draw(10**12, seed=0).id == mix.draw(10**12, seed=0).id


def test_the_stream_never_changes() -> None:
    """Golden: a change here changes what every finished run would see if it were repeated."""
    mix = mixture(a=6, b=4)
    assert stream(mix, 0, 10, seed=7) == ["a1", "a4", "a3", "b3", "b1", "a2", "b2", "a5", "a0", "b0"]


def test_substitutes_come_from_the_same_source_and_are_pure() -> None:
    mix = mixture(a=50, b=20)
    for position in range(40):
        name, _ = mix.locate(position, seed=0)
        tries = [mix.substitute(position, seed=0, attempt=k).id for k in range(1, 6)]
        assert all(record[0] == name for record in tries)
        assert tries == [mix.substitute(position, seed=0, attempt=k).id for k in range(1, 6)]
        assert len(set(tries)) > 1


def test_errors_name_the_source_and_the_record() -> None:
    mix = Mixture({"photos": Listed("p", 1, bad=[0])})
    with pytest.raises(DataError, match="photos, sample '0': broken"):
        mix.draw(0, seed=0)


def test_pictures_are_distinct_and_lazy() -> None:
    mix = Mixture({"a": Listed("a", 7), "again": Listed("a", 5), "b": Listed("b", 2)})
    assert [key for key, _ in mix.pictures()] == ["a0", "a1", "a2", "a3", "b0"]
    config = MixtureConfig.parse(
        {"sources": {"w": {"source": {"kind": "drawn_words", "pictures": 9, "per_picture": 4}}}}
    )
    listed = list(config.open().pictures())
    source = DrawnWords(pictures=9, per_picture=4).open()
    assert [key for key, _ in listed] == [source[index].images[0].digest for index in range(0, 36, 4)]


def test_pictures_pass_over_bad_records_only_when_some_are_tolerated() -> None:
    bad = {"a": Listed("a", 6, bad=[2, 3])}
    assert [key for key, _ in Mixture(bad, tolerance=0.5).pictures()] == ["a0", "a2"]
    with pytest.raises(DataError, match="broken"):
        list(Mixture(bad).pictures())


def test_config_round_trip_and_fingerprint() -> None:
    config = MixtureConfig(
        sources={
            "words": Weighted(source=DrawnWords(pictures=3), weight=2.0),
            "counts": Weighted(source=DrawnCounts(pictures=5), weight=1.0),
        },
        tolerance=0.01,
    )
    assert MixtureConfig.parse(config.to_dict()) == config
    assert config.open().size == 32
    changed = MixtureConfig(sources={**config.sources, "words": Weighted(source=DrawnWords(pictures=3), weight=3.0)})
    assert (
        len({config.fingerprint(), changed.fingerprint(), config.model_copy(update={"tolerance": 0.0}).fingerprint()})
        == 3
    )
    assert config.fingerprint() == MixtureConfig.parse(config.to_dict()).fingerprint()


def test_bad_configs() -> None:
    with pytest.raises(ConfigError, match="sources is empty"):
        MixtureConfig(sources={})
    with pytest.raises(ConfigError, match="weight is given for some but not for b"):
        MixtureConfig.parse({"sources": {"a": {"source": "drawn_words", "weight": 1}, "b": {"source": "drawn_counts"}}})
    with pytest.raises(ConfigError, match=r"sources\.a\.weight"):
        MixtureConfig.parse({"sources": {"a": {"source": "drawn_words", "weight": -1}}})
    with pytest.raises(ConfigError, match="drawn_words"):
        MixtureConfig.parse({"sources": {"a": {"source": "drawn_wordz"}}})


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(DataError, match="e: no records"):
        MixtureConfig(sources={"e": Weighted(source=EmptySource())}).open()
