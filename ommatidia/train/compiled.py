"""torch.compile and memory layout, by part: how its kernels are made, never what they compute."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.globs import by_holding
from ommatidia.models.blocks import blocks

_CXX = ("c++", "g++", "clang++", "cl")


def compile_blocks(
    parts: Mapping[str, nn.Module], names: Sequence[str], *, device: str = "cpu", backend: str = "inductor"
) -> dict[str, int]:
    """Have the blocks of the parts that the globs ``names`` cover compiled when they first run; how many, by part.

    Blocks of equal code share a graph, so a deep part takes little longer than one block. They are compiled in place:
    names, types and state stay what they were. A change that another part makes between two blocks stands outside.

    Raises ConfigError for a glob that matches no part or only parts without blocks, and where no compiler is found.
    """
    if not names:
        return {}
    held = {part: blocks(module) for part, module in parts.items()}
    chosen = by_holding(dict.fromkeys(names, True), held, field="engine.compile", what="row of like blocks")
    if backend == "inductor":
        _check_compiler(device)
    for part in chosen:
        for block in held[part]:
            block.compile(backend=backend)
    return {part: len(held[part]) for part in chosen}


def _check_compiler(device: str) -> None:
    """Raises ConfigError where inductor would find nothing to compile with."""
    if device.startswith("cuda"):
        if importlib.util.find_spec("triton") is None:
            raise ConfigError("engine.compile: torch.compile on CUDA needs the package 'triton': pip install triton")
        if not any(map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))):
            raise ConfigError("engine.compile: triton needs a C compiler (cc, gcc or clang; $CC names another)")
    elif not any(map(shutil.which, (os.environ.get("CXX") or "c++", *_CXX))):
        raise ConfigError(
            f"engine.compile: torch.compile needs a C++ compiler, and none of {', '.join(_CXX)} is on the path; "
            "install one, name it in $CXX, or leave engine.compile empty"
        )


def channels_last(parts: Mapping[str, nn.Module], names: Sequence[str]) -> dict[str, int]:
    """Keep the channels of the parts' two-dimensional convolutions innermost; how many convolutions, by part.

    Their outputs follow, so that nothing is transposed between them. Raises ConfigError for a glob that matches no
    part, or only parts that have no such convolution.
    """
    held = {
        part: [child for child in module.modules() if isinstance(child, nn.Conv2d | nn.ConvTranspose2d)]
        for part, module in parts.items()
    }
    what = "two-dimensional convolution"
    chosen = by_holding(dict.fromkeys(names, True), held, field="engine.channels_last", what=what)
    for convolution in (child for part in chosen for child in held[part]):
        weight = convolution.weight
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return {part: len(held[part]) for part in chosen}
