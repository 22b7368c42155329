"""Provenance: the versions, the processor and the arithmetic that made a result."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ommatidia.core.version import VERSION

_PACKAGES = (
    "torch", "torchvision", "transformers", "timm", "tokenizers", "numpy", "pillow", "simplejpeg", "safetensors",
    "peft",
)  # fmt: skip
"""What computes or decodes: another version may give other numbers."""
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Of a CPU: what libraries choose their kernels by."""


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Versions and machine that made a node."""
    return {
        "ommatidia": VERSION,
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


@lru_cache(maxsize=8)
def processor(device: str) -> str:
    """What computes on a device: the GPU's name, or the CPU's with the flags and the capability that kernels go by."""
    if device.partition(":")[0] != "cpu":
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    has = set(said.get("flags", said.get("Features", "")).split())
    words = [said.get("model name") or platform.processor() or platform.machine(), *(f for f in _FLAGS if f in has)]
    return f"{' '.join(words)} (torch: {torch.backends.cpu.get_cpu_capability()})"


def arithmetic_of(made: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """What changes numbers, over what several nodes say of how they were made: every distinct value once."""
    packages = {f"{name} {found}" for one in made for name, found in one.get("packages", {}).items()}
    facts = {
        many: tuple(sorted({str(one[name]) for one in made if one.get(name)}))
        for many, name in (("processors", "processor"), ("precisions", "precision"), ("threads", "threads"))
    }
    return {**facts, "packages": tuple(sorted(packages))}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout the package runs from; None when it is installed from a wheel."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
