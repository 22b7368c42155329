"""Norms by part, utilisation and memory in the metrics, old metrics files, and what trackers are told."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import train_toy

from ommatidia.train.metrics import FILE, read_metrics
from ommatidia.train.speed import listed, peak_flops, peak_memory
from ommatidia.train.tracking import scalars


def test_the_parts_norms_make_the_whole_norm(tmp_path: Path) -> None:
    train_toy.trainer(train_toy.Toy(), tmp_path, train_toy.stage(steps=3, clip=0.01)).fit()
    for report in read_metrics(tmp_path / FILE):
        assert report.norms.keys() == {"projector", "language"}
        assert math.hypot(*report.norms.values()) == pytest.approx(report.norm, rel=1e-5)
        assert report.norm > 0.01  # before clipping
        assert report.memory > 2**20
        assert report.mfu is None  # a processor states no peak
        assert 0 <= report.waiting <= 1
        assert report.tokens_per_second == report.tokens / report.seconds


def test_a_line_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = {"step": 1, "loss": 2.0, "rates": {"a": 0.1}, "norm": 1.0, "tokens": 9, "supervised": 4, "seconds": 1.0}
    (tmp_path / FILE).write_text(json.dumps({**old, "wait": 0.25}) + "\n", encoding="utf-8")
    (report,) = read_metrics(tmp_path / FILE)
    assert (report.norms, report.mfu, report.memory, report.waiting) == ({}, None, 0, 0.25)


def test_utilisation_is_ideal_over_real_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ommatidia.train.speed.peak_flops", lambda device, precision: 1e12)
    train_toy.trainer(train_toy.Toy(), tmp_path, train_toy.stage(steps=2), flops=3e9).fit()
    for report in read_metrics(tmp_path / FILE):
        assert report.mfu == pytest.approx(3e9 / 1e12 / report.seconds)
        told = scalars(report)
        assert told["mfu"] == report.mfu
        assert told["gradient norm/projector"] == report.norms["projector"]
        assert told["memory GiB"] == report.memory / 2**30


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("Some Other Device", None),
    ],
)
def test_listed_devices(name: str, peak: float | None) -> None:
    assert listed(name) == peak


def test_the_cpu_has_no_listed_peak() -> None:
    assert peak_flops(torch.device("cpu"), "bf16") is None
    assert peak_memory(torch.device("cpu")) > 2**20
