"""Recorded outputs of published implementations: a folder beside the repository, or where OMMATIDIA_GOLDEN says."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # the tiny parts of tests/models

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "golden"


@dataclass(frozen=True)
class Case:
    """One folder of recordings; every part is read when it is asked for."""

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        return self.json("config.json")

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """``outputs``, ``inputs`` or ``weights``, floats in float32."""
        loaded = load_file(self.path / f"{name}.safetensors")
        return {key: value.float() if value.is_floating_point() else value for key, value in loaded.items()}

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """The weights whose names start with ``prefix``, without it."""
        return {k[len(prefix) :]: v for k, v in self.tensors("weights").items() if k.startswith(prefix)}

    def image(self, name: str) -> Image.Image:
        return Image.open(self.path / name)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Case]:
    """A case by name; the test is skipped where the recordings are absent."""

    def find(name: str) -> Case:
        folder = Path(os.environ.get("OMMATIDIA_GOLDEN") or BESIDE) / name
        if not folder.is_dir():
            pytest.skip(f"no golden recordings at {folder}; set OMMATIDIA_GOLDEN to their folder")
        return Case(folder)

    return find


@pytest.fixture(scope="session")
def close() -> Callable[[Tensor, Tensor, str], None]:
    """Compares with the recordings' own tolerance: 1e-4 absolute plus 1e-4 relative. OMMATIDIA_GOLDEN_LOG=FILE notes
    the largest difference of every comparison."""

    def compare(ours: Tensor, theirs: Tensor, what: str) -> None:
        log = os.environ.get("OMMATIDIA_GOLDEN_LOG")
        if log and ours.shape == theirs.shape:
            difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
            test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(f"{test}\t{what}\t{difference:.2e}\t{largest:.3g}\n")
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4, msg=lambda text: f"{what}: {text}")

    return compare
