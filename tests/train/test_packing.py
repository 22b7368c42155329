"""Which samples are computed together: budgets kept, nothing lost, and training the same whatever the choice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from train_toy import Toy, stage, trainer

from ommatidia.core.types import Batch, Example, View
from ommatidia.train.engine import Packing
from ommatidia.train.packing import packs, split_by_length


def made(lengths: list[int], views: list[int] | None = None) -> list[Example]:
    counts = views or [0] * len(lengths)
    return [
        Example(str(number), torch.arange(length), torch.arange(length), views=(View(0, (4, 4)),) * count)
        for number, (length, count) in enumerate(zip(lengths, counts, strict=True))
    ]


def names(rows: list[list[Example]]) -> list[list[str]]:
    return [[example.id for example in row] for row in rows]


def test_longest_first_into_the_first_row_with_room() -> None:
    assert names(packs(made([5, 9, 4, 1, 6]), Packing(tokens=10))) == [["1", "3"], ["4", "2"], ["0"]]


def test_the_budget_of_views_is_kept_too() -> None:
    rows = packs(made([3, 3, 3, 3], [2, 1, 2, 0]), Packing(tokens=100, views=3))
    assert names(rows) == [["0", "1", "3"], ["2"]]


def test_what_is_over_the_budget_stands_alone() -> None:
    assert names(packs(made([3, 50, 4]), Packing(tokens=10))) == [["1"], ["2", "0"]]
    assert names(packs(made([3, 4], [9, 0]), Packing(tokens=10, views=2))) == [["1"], ["0"]]


def test_every_sample_is_in_exactly_one_row_and_rows_fit() -> None:
    generator = random.Random(0)
    for _ in range(50):
        examples = made([generator.randint(1, 40) for _ in range(30)], [generator.randint(0, 3) for _ in range(30)])
        packing = Packing(tokens=64, views=5)
        rows = packs(examples, packing)
        assert sorted(name for row in names(rows) for name in row) == sorted(example.id for example in examples)
        assert all(sum(len(e.ids) for e in row) <= 64 and sum(len(e.views) for e in row) <= 5 for row in rows)


def test_like_lengths_and_like_modalities_keep_together() -> None:
    rows = split_by_length(made([9, 2, 8, 3], [0, 1, 1, 0]), 2)
    assert names(rows) == [["1", "2"], ["3", "0"]]


@pytest.mark.parametrize("size", [1, 3, 4])
def test_every_micro_batch_but_the_last_is_full(size: int) -> None:
    rows = split_by_length(made([1, 2, 3, 4]), size)
    assert [len(row) for row in rows[:-1]] == [size] * (len(rows) - 1)
    assert sum(map(len, rows)) == 4


class Greedy(Toy):
    """Runs out of memory above so many tokens in a forward pass."""

    most = 16

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        if int(batch.mask_BT.sum()) > self.most:
            raise torch.OutOfMemoryError("made up")
        return super().loss(batch)


def test_packs_are_halved_when_memory_runs_out(tmp_path: Path) -> None:
    value = stage(engine={"packing": {"tokens": 1000}})
    easy, hard = trainer(Toy(), tmp_path / "easy", value), trainer(Greedy(), tmp_path / "hard", value)
    easy.fit()
    hard.fit()
    assert hard.packing is not None
    assert 8 <= hard.packing.tokens <= 16
    for name, tensor in easy.result().items():
        torch.testing.assert_close(hard.result()[name], tensor, rtol=1e-4, atol=1e-5)
