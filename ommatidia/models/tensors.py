"""The one place that writes safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ommatidia.core.file_mode import usual_mode


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write one file, with the umask's mode: safetensors 0.8 leaves it to its owner alone.

    Raises OSError and SafetensorError as the disk does.
    """
    with usual_mode(path):
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
