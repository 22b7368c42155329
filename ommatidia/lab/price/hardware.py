"""Hardware as data: what one accelerator computes and holds, by its maker's data sheet (dense bf16, decimal bytes)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ommatidia.core.errors import ConfigError, unknown

ASSUMED_MFU = 0.4
"""Share of the peak that training is assumed to reach; large runs report 0.3 to 0.55."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One accelerator."""

    title: str
    flops: float
    """Peak dense bf16 operations a second."""
    memory: float
    """Bytes."""


HARDWARE: Mapping[str, Hardware] = {
    "a100-40g": Hardware("A100 40 GB", 312e12, 40e9),
    "a100-80g": Hardware("A100 80 GB", 312e12, 80e9),
    "h100": Hardware("H100 SXM 80 GB", 989e12, 80e9),
    "h200": Hardware("H200 SXM 141 GB", 989e12, 141e9),
    "b200": Hardware("B200 180 GB", 2250e12, 180e9),
    "tpu-v4": Hardware("TPU v4 32 GB", 275e12, 32e9),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Accelerators of one kind that train together."""

    hardware: Hardware
    world: int
    mfu: float

    @property
    def speed(self) -> float:
        """Operations a second that all of them do together."""
        return self.hardware.flops * self.mfu * self.world


def machine_named(name: str | None, *, world: int = 1, mfu: float = ASSUMED_MFU) -> Machine | None:
    """A machine of ``world`` such accelerators; None where none is named.

    Raises ConfigError for an unknown name, or numbers that no machine has.
    """
    if name is None:
        return None
    if name not in HARDWARE:
        raise ConfigError(f"--hardware: {unknown('accelerator', name, HARDWARE)}")
    if world < 1:
        raise ConfigError(f"--world: expected at least 1 accelerator, got {world}")
    if not 0 < mfu <= 1:
        raise ConfigError(f"--mfu: expected a share of the peak above 0 and at most 1, got {mfu:g}")
    return Machine(HARDWARE[name], world, mfu)
