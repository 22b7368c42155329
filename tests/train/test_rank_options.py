"""Every option of a stage on two ranks: what one process computes, as copies and in shards, stopped and gone on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import rank_options
import torch
from forked import ranks
from rank_options import OPTIONS, SAVED, STEPS, from_the_middle, train
from safetensors.torch import load_file
from torch import Tensor, nn

from ommatidia.train.adafactor import Adafactor
from ommatidia.train.metrics import StepReport, read_metrics
from ommatidia.train.ranks import Ranks

CASES = [(name, mode) for name, option in OPTIONS.items() for mode in option.modes]
ALONE = Ranks()

pytestmark = pytest.mark.slow
"""``test_ranks`` trains two ranks in the daily suite; here is every option."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the ranks compute: small tensors gain nothing from threads, and lose much where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """The folder of one launch of two ranks that trains under every option."""
    folder = tmp_path_factory.mktemp("two")
    for done in ranks(2, rank_options.__file__, folder):
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """The same by one process."""
    folder = tmp_path_factory.mktemp("one")
    for name, option in OPTIONS.items():
        train(folder / name, ALONE, option, "ddp")
    return folder


def reports(folder: Path) -> list[StepReport]:
    return read_metrics(folder / "metrics.jsonl")


def result(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "result.safetensors")


def compare(wanted: Path, found: Path, name: str) -> None:
    """Losses, held-out losses, gradient norms and the result of two runs under an option."""
    option, a, b = OPTIONS[name], reports(wanted), reports(found)
    assert [(r.tokens, r.supervised) for r in a] == [(r.tokens, r.supervised) for r in b]
    assert [r.loss for r in a] == pytest.approx([r.loss for r in b], abs=option.loss)
    assert [r.norm for r in a] == pytest.approx([r.norm for r in b], rel=option.loss)
    assert [r.validation is None for r in a] == [r.validation is None for r in b]
    held = [[r.validation for r in rows if r.validation is not None] for rows in (a, b)]
    assert held[0] == pytest.approx(held[1], abs=option.loss)
    first, second = result(wanted), result(found)
    assert {n: t.dtype for n, t in first.items()} == {n: t.dtype for n, t in second.items()}
    for key, tensor in first.items():
        torch.testing.assert_close(
            second[key], tensor, atol=option.weight, rtol=0, msg=lambda text, n=key: f"{n}: {text}"
        )


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_two_ranks_are_one_process(one: Path, two: Path, name: str, mode: str) -> None:
    compare(one / name, two / f"{name} {mode}", name)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_checkpoint_goes_on_with_two_ranks_to_the_bit_and_with_one(
    two: Path, tmp_path: Path, name: str, mode: str
) -> None:
    straight, again = two / f"{name} {mode}", two / f"{name} {mode} again"
    assert len(reports(again)) == STEPS
    assert [(r.loss, r.norm) for r in reports(again)] == [(r.loss, r.norm) for r in reports(straight)]
    wanted, found = result(straight), result(again)
    assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())
    alone = from_the_middle(straight, tmp_path / "alone")
    train(alone, ALONE, OPTIONS[name], mode)
    assert [r.loss for r in reports(alone)[:SAVED]] == [r.loss for r in reports(straight)[:SAVED]]
    compare(straight, alone, name)


def test_ranks_that_hold_copies_hold_equal_ones(two: Path) -> None:
    """bf16_pure with adamw_8bit rounds at random: alike on all ranks, or copies would drift apart unseen."""
    first, second = (json.loads((two / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert len(first) == len(CASES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adafactor_is_torchs_to_the_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    shapes = [(6, 5), (1, 7), (4, 3, 2, 2), (9,)]
    start = [torch.randn(shape).to(dtype) for shape in shapes]
    ends = []
    for make in (torch.optim.Adafactor, Adafactor):
        held = [nn.Parameter(tensor.clone()) for tensor in start]
        made = make([{"params": held, "weight_decay": 0.1}], lr=3e-2)
        generator = torch.Generator().manual_seed(1)
        for _ in range(4):
            for parameter in held:
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype)
            made.step()
        ends.append(held)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
