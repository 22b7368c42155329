"""Near duplicates: what counts as alike, and a template that thousands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ommatidia.core.types import Picture
from ommatidia.data.curation.corpus import Origin, Read
from ommatidia.data.curation.near_duplicates import NearDuplicates, band_keys, likeness, minhash
from ommatidia.data.curation.operation import Place
from ommatidia.data.curation.record import Record


class NoFile(Origin):
    """A corpus that names no images."""

    file = "f.jsonl"

    def __len__(self) -> int:
        return 0

    def records(self) -> Iterator[Read]:
        return iter(())

    def picture(self, image: Any) -> Picture:
        raise AssertionError(image)

    def path(self, image: Any) -> Path | None:
        raise AssertionError(image)


def record(number: int, *turns: str, system: str = "") -> Record:
    said = [{"from": "system", "value": system}] if system else []
    said += [{"from": ("human", "gpt")[n % 2], "value": turn} for n, turn in enumerate(turns)]
    return Record({"id": str(number), "conversations": said}, NoFile(), "f", "s", "all", number)


def kept(records: list[Record], folder: Path, **fields: Any) -> list[int]:
    operation = NearDuplicates(**{"same_pictures": False, **fields})
    step = operation.start(Place(folder))
    return [one.row for one in records if step.decide(one).record is not None]


def words(seed: int, count: int) -> str:
    return " ".join(f"w{n}" for n in np.random.RandomState(seed).randint(0, 10**6, count))


def test_a_shared_system_prompt_makes_no_duplicates(tmp_path) -> None:
    records = [record(n, words(n, 8), words(n + 1000, 8), system=words(0, 400)) for n in range(200)]
    assert kept(records, tmp_path) == list(range(200))


def test_records_without_images_have_no_images_in_common(tmp_path) -> None:
    records = [record(n, "What is it?", "A cat that sleeps.") for n in range(3)]
    assert kept(records, tmp_path, same_pictures=True) == [0, 1, 2]


def test_the_same_words_are_found(tmp_path) -> None:
    records = [
        record(0, "What is this, then?", "A cat on the mat."),
        record(1, "what is THIS then", "A cat, on the mat!"),  # case and punctuation do not count
        record(2, "What is this then A", "cat on the mat"),  # the border between turns does
    ]
    assert kept(records, tmp_path) == [0, 2]


def test_a_template_hides_no_duplicate(tmp_path) -> None:
    template = words(0, 60)
    records = [record(n, template, words(n + 1, 20)) for n in range(150)]
    records += [record(150 + n, template, words(n + 1, 20)) for n in range(0, 150, 3)]
    assert kept(records, tmp_path) == list(range(150))


def test_estimates_and_bands() -> None:
    text = words(1, 200)
    half = text.split()
    other = " ".join([*half[:150], *words(2, 50).split()])
    # 148 triples in common of 198 + 198 - 148
    assert abs(likeness(minhash([text]), minhash([other])) - 148 / 248) < 0.12
    assert [NearDuplicates(likeness=value).rows for value in (0.6, 0.8, 1.0)] == [4, 8, 16]
    keys = band_keys(minhash([text]), "", rows=8)
    assert len(set(keys)) == 33
    assert likeness(minhash(["猫が寝ている。"]), minhash(["猫が寝ている"])) == 1.0
