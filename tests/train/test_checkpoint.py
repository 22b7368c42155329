"""Resume: bit-identical after SIGKILL; broken checkpoints passed over, foreign ones refused, full disks reported."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import train_toy
from forked import Program
from safetensors.torch import load_file
from train_toy import Toy, stage, trainer

from ommatidia.core.errors import RunError
from ommatidia.train import checkpoint
from ommatidia.train.checkpoint import Checkpoints, differences
from ommatidia.train.metrics import MetricsLog, read_metrics

STEPS, PAUSE = 30, 0.02


def started(folder: Path) -> Program:
    return Program(train_toy.__file__, folder, str(STEPS), str(PAUSE))


def lines(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_and_started_again_equals_undisturbed(tmp_path):
    folder, moment = tmp_path / "killed", random.randrange(4, STEPS - 6)  # any moment must do
    with started(folder) as running:
        deadline = time.monotonic() + 60
        while lines(folder) < moment and time.monotonic() < deadline and running.alive():
            time.sleep(0.002)
        running.kill()
        done = running.wait()
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (folder / "result.safetensors").exists()
    with started(folder) as again:
        done = again.wait(60)
    assert done.returncode == 0, done.stderr
    assert "going on after step" in done.stderr
    threads = torch.get_num_threads()
    train_toy.main(tmp_path / "straight", STEPS, 0.0)
    torch.set_num_threads(threads)
    straight, resumed = (load_file(f / "result.safetensors") for f in (tmp_path / "straight", folder))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight), f"killed near step {moment}"
    losses = [
        [(r.step, r.loss, r.norm, r.rates) for r in read_metrics(f / "metrics.jsonl")]
        for f in (tmp_path / "straight", folder)
    ]
    assert losses[0] == losses[1]


def stopped_after(steps: int, folder: Path, value=None, **more):
    """Train until the data ends after ``steps``, as a crash would leave it."""
    run = trainer(Toy(dropout=0.3), folder, value or stage(save_every=2), **more)
    run._batches = lambda start: iter([next(train_toy.batches(s)) for s in range(start, steps)])
    with pytest.raises(RunError, match="the data ended"):
        run.fit()


def final(folder: Path, value=None, **more):
    run = trainer(Toy(dropout=0.3), folder, value or stage(save_every=2), **more)
    report = run.fit()
    return report, run.result()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("train", [{"projector": 1e-2, "language": 3e-3}, {"*": 1e-2}, {"encoders.toy:neck": 1e-2}])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_resumed_equals_straight(tmp_path, train, steps):
    value = stage(train=train, save_every=2)
    stopped_after(steps, tmp_path / "a", value)
    report, state = final(tmp_path / "a", value)
    assert report.resumed == steps // 2 * 2
    assert same(state, final(tmp_path / "b", value)[1])
    assert [r.step for r in read_metrics(report.metrics)] == list(range(1, 13))


def test_a_finished_stage_is_not_trained_again(tmp_path):
    first, state = final(tmp_path)
    again, same_state = final(tmp_path, batches=lambda start: pytest.fail("no data is needed"))
    assert same(state, same_state)
    assert again.resumed == 12
    assert (again.loss, again.tokens) == (first.loss, first.tokens)


def test_only_the_last_is_kept_and_nothing_is_left_lying(tmp_path):
    final(tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000012"]
    assert sorted(p.name for p in (tmp_path / "checkpoints" / "step-00000012").iterdir()) == [
        "manifest.json",
        "optimizer.safetensors",
        "trained.safetensors",
    ]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("name", ["trained.safetensors", "optimizer.safetensors", "manifest.json"])
@pytest.mark.parametrize("break_it", [flip, cut, Path.unlink], ids=["flipped", "cut", "missing"])
def test_a_broken_checkpoint_is_passed_over(tmp_path, name, break_it, capfd):
    stopped_after(5, tmp_path / "a")
    break_it(tmp_path / "a" / "checkpoints" / "step-00000004" / name)
    report, state = final(tmp_path / "a")
    assert report.resumed == 0
    assert "checkpoint not used" in " ".join(capfd.readouterr().err.split())
    assert same(state, final(tmp_path / "b")[1])


def test_the_one_before_a_broken_checkpoint_is_used(tmp_path):
    tensors = {"projector:0.weight": torch.ones(2, 3)}
    kept = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        kept.save(step, {"trained": tensors}, {"digest": "d"})
    flip(tmp_path / "step-00000003" / "trained.safetensors")
    found = kept.latest()
    assert found.step == 2
    assert torch.equal(found.weights()["projector:0.weight"], torch.ones(2, 3))
    kept.save(3, {"trained": tensors}, {"digest": "d"})  # written over the broken one
    assert kept.latest().step == 3


def test_a_manifest_with_another_step_is_not_believed(tmp_path):
    Checkpoints(tmp_path).save(1, {}, {})
    manifest = tmp_path / "step-00000001" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"step": 2}))
    assert Checkpoints(tmp_path).latest() is None


def groups(tensor):
    return {"trained": {"a": tensor}, "optimizer": {}}


def test_a_crash_while_writing_leaves_the_one_before(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    kept.save(1, groups(torch.zeros(4)), {})
    write, calls = checkpoint._write, []

    def dies(path, tensors):
        calls.append(path)
        if len(calls) == 2:
            raise SystemExit("killed")
        return write(path, tensors)

    monkeypatch.setattr(checkpoint, "_write", dies)
    with pytest.raises(SystemExit):
        kept.save(2, groups(torch.ones(4)), {})
    monkeypatch.undo()
    assert any(p.name.endswith(".tmp") for p in tmp_path.iterdir())
    assert kept.latest().step == 1
    kept.save(3, groups(torch.ones(4)), {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize(
    ("value", "more", "said"),
    [
        (stage(save_every=2, batch=16), {}, "stage.batch: 8, now 16"),
        (stage(save_every=2, train={"projector": 1e-2}), {}, "stage.train.language: no longer there"),
        (stage(save_every=2, train={"projector": 2e-2, "language": 3e-3}), {}, "stage.train.projector: 0.01, now 0.02"),
        (stage(save_every=2), {"seed": 4}, "seed: 3, now 4"),
        (stage(save_every=2), {"steps": 13}, "steps: 12, now 13"),
        (stage(save_every=2), {"key": "other"}, 'key: "", now "other"'),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path, value, more, said):
    stopped_after(3, tmp_path)
    with pytest.raises(RunError, match="this checkpoint is of another run") as caught:
        final(tmp_path, value, **more)
    assert said in str(caught.value)


def test_what_cannot_change_the_result_may_differ(tmp_path):
    stopped_after(3, tmp_path)
    assert final(tmp_path, stage(save_every=None, micro_batch=4, log_every=1))[0].resumed == 2


def test_differences():
    old, new = {"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2], "b": 1}, "e": 1}
    assert list(differences(old, new)) == ["a.c: [1], now [2]", "a: another order", "d: no longer there", "e: only now"]
    assert list(differences(old, old)) == []


def test_a_folder_that_cannot_be_made_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/run/metrics.jsonl: cannot write metrics: Not a directory"):
        final(tmp_path / "file" / "run", batches=lambda start: pytest.fail("no step may run"))


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_keeps_what_was_saved(tmp_path, monkeypatch, reason):
    stopped_after(3, tmp_path)

    def refuses(path):
        raise OSError(reason, os.strerror(reason), str(path))

    monkeypatch.setattr(checkpoint, "_sync", refuses)
    with pytest.raises(RunError, match=f"step-00000004: cannot write the checkpoint: {os.strerror(reason)}"):
        final(tmp_path)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert final(tmp_path)[0].resumed == 2


def test_safetensors_own_write_error_is_one_line(tmp_path):
    (tmp_path / "target").mkdir()
    kept = Checkpoints(tmp_path / "target")
    shutil.rmtree(tmp_path / "target")
    (tmp_path / "target").write_text("")
    with pytest.raises(RunError, match="cannot write the checkpoint"):
        kept.save(1, groups(torch.zeros(1)), {})


def test_views_into_shared_storage_are_saved(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    Checkpoints(tmp_path).save(1, {"trained": {"row": base[1], "columns": base[:, 1:3], "all": base}}, {})
    found = Checkpoints(tmp_path).latest().weights()
    assert torch.equal(found["row"], base[1])
    assert torch.equal(found["columns"], base[:, 1:3])
    assert torch.equal(found["all"], base)


def test_metrics_lines_after_the_checkpoint_are_dropped(tmp_path):
    stopped_after(5, tmp_path)
    path = tmp_path / "metrics.jsonl"
    assert [r.step for r in read_metrics(path)] == [1, 2, 3, 4, 5]
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    with MetricsLog(path, after=4):
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    assert read_metrics(tmp_path / "nothing.jsonl") == []
