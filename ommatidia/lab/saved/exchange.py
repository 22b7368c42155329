"""Folders in and out: published checkpoints become ours, ours become what transformers loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ommatidia.core.command_result import CommandResult
from ommatidia.core.config import read_assignments, read_yaml
from ommatidia.core.console import shell_line
from ommatidia.lab.run.preflight import check_writable
from ommatidia.models.published import export_checkpoint, import_checkpoint


def import_folder(
    path: Path, out: Path, *, encoders: Path | None, changes: Sequence[str], pickles: bool
) -> CommandResult:
    """Import a published checkpoint. Raises ConfigError, RunError or DiskError."""
    done = import_checkpoint(
        path,
        out,
        changes=read_assignments(changes),
        encoders=None if encoders is None else read_yaml(encoders),
        pickles=pickles,
    )
    table = ("tensors", ("part", "tensors", "why"), done.account.table())
    lines = [
        f"{out}: {done.family}, {done.dtype}",
        f"ask it: {shell_line('omma', 'chat', out, '--image')} FILE 'question'",
    ]
    data = {
        "folder": str(out), "family": done.family, "dtype": done.dtype, "used": len(done.account.used),
        "ignored": dict(done.account.ignored),
    }  # fmt: skip
    return CommandResult(tables=[table], lines=lines, data=data)


def export_folder(folder: Path, out: Path) -> CommandResult:
    """Export a saved folder. Raises ConfigError, RunError or DiskError."""
    check_writable(out.parent)
    done = export_checkpoint(folder, out)
    stock = f"transformers.{done.architecture}.from_pretrained"
    how = "AutoModel, after ommatidia.register_auto_classes()" if done.why else stock
    lines = [f"{out}: loads with {how}"] + ([f"no stock architecture: {done.why}"] if done.why else [])
    if done.merged:
        lines.append(f"adapters of {', '.join(done.merged)}: added into the matrices; the folder has none")
    data = {"folder": str(out), "architecture": done.architecture, "why": done.why, "merged": list(done.merged)}
    return CommandResult([], lines, data)
