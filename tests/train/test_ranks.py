"""Several ranks are one process: losses, results, checkpoints, errors. A lost rank ends the job and is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import rank_toy
import torch
from rank_toy import MODES, VALIDATION, VISUAL, Seeing, losses, trainer
from safetensors.torch import load_file

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.train import ranks, watchdog
from ommatidia.train.blocks import blocks_of
from ommatidia.train.board import RankNotes
from ommatidia.train.ranks import Ranks, process_group
from ommatidia.train.watchdog import Watchdog

ALONE = Ranks()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """The folder of one launch of two ranks that does nearly everything, and at last loses one of them."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    there = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    program = [*launch, rank_toy.__file__, str(folder)]
    done = subprocess.run(program, env=there, text=True, capture_output=True, timeout=240, check=False)
    assert (folder / "rank1.json").exists(), done.stderr
    assert done.returncode == 1
    (folder / "said").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """The same by one process."""
    folder = tmp_path_factory.mktemp("one")
    rank_toy.finish(trainer(folder / "all", ALONE, validation=VALIDATION), ALONE, folder / "all")
    rank_toy.finish(trainer(folder / "visual", ALONE, train=VISUAL), ALONE, folder / "visual")
    return folder


def close(first: Path, second: Path) -> None:
    a, b = load_file(first / "result.safetensors"), load_file(second / "result.safetensors")
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=0)


def told(folder: Path) -> list[dict[str, str]]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("mode", MODES)
def test_two_ranks_are_one_process(one, two, mode):
    for which, name in (("all", mode), ("visual", f"{mode} visual")):
        close(one / which, two / name)
        wanted, found = losses(one / which), losses(two / name)
        assert [row[2:4] for row in wanted] == [row[2:4] for row in found]
        for a, b in zip(wanted, found, strict=True):
            assert a[:2] == pytest.approx(b[:2], abs=1e-5)
            assert a[4] == pytest.approx(b[4], abs=1e-5)
    assert [row[4] is not None for row in losses(two / mode)] == [False, False, False, True, False, True]


def test_no_encoder_runs_without_pictures_and_all_ranks_run_it_with_them(two):
    first, second = told(two)
    for mode in MODES:
        # Two micro-batches in each of six steps but the blind one, and twice two lists of held-out samples, of which
        # the first has two micro-batches on rank 0 and so on both.
        assert first[f"{mode} looked"] == second[f"{mode} looked"] == 2 * 5 + 2 * 3


def test_resumed_on_the_same_on_fewer_and_in_another_mode(one, two):
    assert all("the data ended" in found[f"{mode} stopped"] for found in told(two) for mode in MODES)
    saved = two / "ddp stopped" / "checkpoints" / "step-00000003"
    assert sorted(path.name for path in saved.glob("trained*")) == [
        "trained.00001-of-00002.safetensors",
        "trained.00002-of-00002.safetensors",
    ]
    assert not any(path.suffix in (".pt", ".pkl", ".bin") or path.name == ".metadata" for path in saved.iterdir())
    run = trainer(two / "ddp stopped", ALONE)  # saved by two, continued by one
    rank_toy.finish(run, ALONE, two / "ddp stopped")
    for mode in MODES:  # the others were continued by two, fsdp as ddp, hsdp as fsdp
        close(one / "all", two / f"{mode} stopped")
    assert [row[0] for row in losses(two / "ddp stopped")] == pytest.approx(
        [r[0] for r in losses(one / "all")], abs=1e-5
    )


def test_shards_are_read_whole_by_one_process(one, two):
    run = trainer(two / "fsdp", ALONE, validation=VALIDATION)
    assert run.fit().resumed == rank_toy.STEPS
    wanted = load_file(two / "fsdp" / "result.safetensors")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in run.result().items())


def test_one_rank_s_trouble_is_everybody_s(one, two):
    for found in told(two):
        assert "the loss is nan on rank 1, stopped before the optimiser step; samples 'toy/" in found["nan"]
        assert found["nan"].startswith("RunError: stage 'toy', step 1 of 6")
        assert found["signal"].startswith("StoppedError: stage 'toy', step 3 of 6: stopped by SIGTERM; saved in ")
        assert found["other"].endswith(
            "the ranks were started on different runs: stage.clip: 1.0 on rank 0 and on rank 1 2.0"
        )
        assert found["tight"] == 1
    assert [path.name for path in (two / "signal" / "checkpoints").iterdir()] == ["step-00000002"]
    close(one / "all", two / "tight")


def test_a_killed_rank_ends_the_job_and_is_named(two):
    said = (two / "said").read_text()
    assert "error: rank 0: rank 1 (process " in said
    assert "is gone; last seen" in said
    assert len(losses(two / "killed")) == 2


def test_a_rank_that_hangs_is_named(monkeypatch):
    ends: dict[str, list[str]] = {"said": []}
    over = threading.Event()
    monkeypatch.setattr(watchdog.Console, "error", lambda self, text: ends["said"].append(text))
    monkeypatch.setattr(watchdog.os, "_exit", lambda code: over.set())
    monkeypatch.setattr(watchdog, "_BEAT", 0.05)
    monkeypatch.setattr(watchdog, "_SILENT", 0.3)
    board, people = RankNotes(), ["process 1 on a", "process 2 on b"]
    with Watchdog(board, 0, people) as first, Watchdog(board, 1, people) as second, first.limit(0.5):
        second.mark("waiting for data", meeting=1)
        first.mark("waiting for the other ranks", meeting=2)
        assert over.wait(20)
    assert ends["said"] == [
        "rank 0: rank 1 (process 2 on b) is late: engine.timeout is 0.5 s, and it is still waiting for data"
    ]


def test_a_rank_without_a_sign_of_life_is_gone_and_the_words_of_one_that_failed_are_heard(monkeypatch):
    monkeypatch.setattr(watchdog, "_SILENT", 0.3)
    board, people = RankNotes(), ["process 1 on a", "process 2 on b"]
    first, second = Watchdog(board, 0, people), Watchdog(board, 1, people)
    assert first.lost() == "rank 1 (process 2 on b) is gone; last seen starting"
    board.post("done/1", True)  # it said goodbye
    assert first.lost() is None
    second.raise_alarm("ValueError: no")
    assert first.lost() == "rank 1 (process 2 on b) failed: ValueError: no"
    assert second.alarm() is None


@pytest.mark.parametrize("worlds", [(2, 3), (3, 2)])
def test_ranks_that_disagree_about_their_number(worlds):
    board, said = RankNotes(), []

    def meet(rank: int) -> None:
        with pytest.raises(ConfigError) as caught:
            ranks._meet(board, rank, worlds[rank])
        said.append(str(caught.value))

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(said) == 2
    assert any(f"WORLD_SIZE is {worlds[0]} for rank 0 and {worlds[1]} for rank 1" in text for text in said)
    with pytest.raises(ConfigError, match="two processes say that they are rank 1"):
        ranks._meet(board, 1, 2)


def test_memory_that_runs_out_halves_the_micro_batch(one, tmp_path, capfd):
    run = trainer(tmp_path, ALONE, model=Seeing(most=3), micro_batch=None)
    rank_toy.finish(run, ALONE, tmp_path)
    assert run.micro_batch == 2
    assert "out of memory with 8 samples in a forward pass; going on with 4" in " ".join(capfd.readouterr().err.split())
    close(one / "all", tmp_path)
    with pytest.raises(RunError, match=r"out of memory \(with one sample at a time\); set a smaller stage.micro_batch"):
        trainer(tmp_path / "never", ALONE, model=Seeing(most=0)).fit()


def test_the_best_checkpoint_is_kept_by_its_held_out_loss(tmp_path):
    run = trainer(tmp_path, ALONE, validation={**VALIDATION, "every": 1}, engine={"keep_best": True, "keep_last": 2})
    run.fit()
    measured = [row[4] for row in losses(tmp_path)]
    best = 1 + measured.index(min(measured))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        f"best-{best:08d}", "step-00000005", "step-00000006",
    ]  # fmt: skip
    assert run._checkpoints.best().loss == min(measured)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2 and WORLD_SIZE 2"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "1"}, "MASTER_ADDR not set"),
    ],
)
def test_an_environment_that_contradicts_itself(environment, said):
    with pytest.raises(ConfigError, match=said), process_group(environment):
        pass


def test_a_batch_smaller_than_the_ranks_and_groups_that_do_not_go_in():
    with pytest.raises(ConfigError, match="a batch of 8 cannot be divided over 9 ranks"):
        trainer(Path("unused"), Ranks(world=9))
    with pytest.raises(ConfigError, match="2 groups of equal size cannot be made of 3 ranks"):
        Ranks(world=3).mesh(torch.device("cpu"), 2)


def test_blocks_are_the_outermost_rows_of_like_layers():
    model = Seeing()
    assert blocks_of(model.language) == list(model.language.blocks)
    assert blocks_of(model.eye) == list(model.eye.trunk)
    assert blocks_of(model.projector) == []
