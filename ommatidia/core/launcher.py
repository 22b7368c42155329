"""Launchers start a program several times; what is the work of one process is then rank 0's."""

from __future__ import annotations

import os

from ommatidia.core.console import console

TOGETHER = ("run", "search")
"""Commands that all processes of a launcher carry out together."""


def is_idle(command: str) -> bool:
    """Whether another process of the launcher carries out ``command``: several would write over each other.

    The one that does says so, since whoever started several may have hoped for more.
    """
    if command in TOGETHER or os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    if os.environ.get("RANK", "0") != "0":
        return True
    console().warn(f"omma {command} is the work of one process: rank 0 does it, and the other ranks have ended")
    return False
