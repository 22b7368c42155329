"""What a device can do at most, so that a step can be told as a share of it; and how much memory was in use."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch

from ommatidia.train.stage import Precision

_BF16 = (
    ("B300", 2.25e15), ("B200", 2.25e15), ("GB200", 2.5e15), ("H200", 989e12), ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12), ("H100", 989e12), ("GH200", 989e12), ("H800", 989e12), ("A100", 312e12), ("A800", 312e12),
    ("L40S", 362e12), ("L4", 121e12), ("A10", 125e12), ("RTX 4090", 165e12), ("RTX 3090", 71e12),
)  # fmt: skip
"""Dense bfloat16 operations a second of a device whose name holds these words, as its maker states them; the first
that fits counts."""


class Meter:
    """Tells a step of ``flops`` operations (None: not known) over ``world`` devices as a share of what they can do."""

    def __init__(self, device: torch.device, precision: Precision, *, flops: float | None, world: int) -> None:
        self._device, peak = device, peak_flops(device, precision)
        self._ideal = flops / (peak * world) if flops and peak else None

    def metrics(self, seconds: float) -> dict[str, Any]:
        """``mfu`` and ``memory`` of a step that took so long."""
        mfu = None if self._ideal is None or not seconds else self._ideal / seconds
        return {"mfu": mfu, "memory": peak_memory(self._device)}


def peak_flops(device: torch.device, precision: Precision) -> float | None:
    """Operations a second that the device can do at most in the stage's products; None for one that is not listed.

    In fp32 a GPU has no one peak (it depends on whether TF32 is allowed), and a processor has none that is stated.
    """
    if device.type != "cuda" or precision == "fp32":
        return None
    return listed(torch.cuda.get_device_name(device))


def listed(name: str) -> float | None:
    """The stated bfloat16 peak of a GPU by the name its driver gives it."""
    words = f" {name.replace('-', ' ')} "
    return next((peak for known, peak in _BF16 if f" {known} " in words), None)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: allocated on a GPU; on the CPU, resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
