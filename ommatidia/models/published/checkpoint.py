"""A published checkpoint folder: its config and its weights, whoever wrote it. Nothing is run, nothing is unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.models.shards import Shards, ShardWriter
from ommatidia.models.vision.weights import read_tensors


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``config.json`` as plain data, and the shapes and tensors of the current shards (stale ``_old`` ones unseen)."""

    folder: Path
    config: dict[str, Any]
    shards: Shards

    @classmethod
    def open(cls, folder: Path, *, pickles: bool = False, scratch: Path | None = None) -> Checkpoint:
        """Raises ConfigError: no such folder, no config. Raises RunError for weights that are missing or broken.

        A folder of pickles alone is refused; with ``pickles`` its tensors are read by ``torch.load`` with
        ``weights_only``, which runs no code, and written as safetensors into ``scratch``.
        """
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; expected a published checkpoint with config.json")
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except OSError:
            raise ConfigError(f"{folder}: config.json is missing; expected a published checkpoint") from None
        except json.JSONDecodeError as error:
            raise ConfigError(f"{folder / 'config.json'}: not valid JSON, line {error.lineno}") from None
        weights = folder
        found = sorted(folder.glob("*.bin"))
        if found and not any(folder.glob("*.safetensors")):
            if not pickles:
                raise ConfigError(
                    f"{folder}: only pickles ({found[0].name}); --allow-pickle reads their tensors and runs no code"
                )
            if scratch is None:
                raise ConfigError(f"{folder}: reading pickles needs a scratch folder")
            _unpickle(found, scratch)
            weights = scratch
        return cls(folder, config, Shards(weights))

    def side(self, name: str) -> int:
        """Length of a tensor's first side. Raises RunError for a tensor that is not there."""
        return self.shards.shape(name)[0]

    def equal(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same numbers."""
        first, second = (self.shards.read(name) for name in (one, other))
        return torch.equal(first, second)

    def count(self, pattern: str) -> int:
        """How many numbered members there are: ``pattern`` holds one ``{}`` for the number, from 0 without a gap."""
        number = 0
        while pattern.format(number) in self.shards.entries:
            number += 1
        return number

    def under(self, prefix: str) -> list[str]:
        """Names that start with ``prefix``, without it."""
        return [name[len(prefix) :] for name in self.shards if name.startswith(prefix)]

    def dtype(self) -> str:
        """The type of most weights: float32, bfloat16 or float16. Raises RunError for any other."""
        kinds = [entry.dtype for entry in self.shards.entries.values()]
        most = max(set(kinds), key=kinds.count)
        known = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
        if most not in known:
            raise RunError(f"{self.folder}: weights of type {most}; expected one of {', '.join(known)}")
        return known[most]


def _unpickle(files: list[Path], scratch: Path) -> None:
    writer = ShardWriter(scratch)
    for file in files:
        for name, tensor in read_tensors(file).items():
            writer.add(name, _owned(tensor))
    writer.close()


def _owned(tensor: Tensor) -> Tensor:
    """A copy of its own: pickles may let many tensors share one storage."""
    return tensor.clone(memory_format=torch.contiguous_format)
