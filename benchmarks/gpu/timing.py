"""Timing on a CUDA device: events around runs, sides interleaved; the matmul ceiling of the same job; the machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch


def milliseconds(run: Callable[[], object]) -> float:
    """One run, from the first kernel to the last."""
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    began.record()
    run()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended)


def interleaved(sides: Mapping[str, Callable[[], object]], *, rounds: int, warm: int = 2) -> dict[str, list[float]]:
    """Milliseconds of every round of each side, sides taking turns."""
    for run in sides.values():
        for _ in range(warm):
            run()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            taken[name].append(milliseconds(run))
    return taken


def ratio(taken: Mapping[str, list[float]], over: str, under: str) -> float:
    """Median of each round's own ratio."""
    return round(statistics.median(a / b for a, b in zip(taken[over], taken[under], strict=True)), 3)


def medians(taken: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(times), 3) for name, times in taken.items()}


def peak_gib(run: Callable[[], object]) -> float:
    """GiB allocated at most during a run, what was held before it left out."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 2**30, 3)


def ceiling(size: int = 8192, *, rounds: int = 10) -> float:
    """FLOP a second of a square bf16 matrix product on random data: what this device can do in this job."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    taken = interleaved({"matmul": lambda: a @ b}, rounds=rounds, warm=3)["matmul"]
    return 2 * size**3 / (statistics.median(taken) / 1e3)


def machine() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {"device": properties.name, "memory_gib": round(properties.total_memory / 2**30), "torch": torch.__version__}
