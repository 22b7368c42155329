"""CommandResult: what a command has to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ommatidia.core.console import console

Table = tuple[str, Sequence[str], list[list[Any]]]


@dataclass
class CommandResult:
    """Tables, closing lines, and the same as data."""

    tables: list[Table] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    status: int = 0
    """The exit status of the command after showing this: 1 where something that was asked for is missing, 3 where
    designs failed."""

    def show(self) -> None:
        """Print it as a result: tables, then lines; in JSON mode the data instead.

        Raises SystemExit for a status other than 0.
        """
        for title, columns, rows in self.tables:
            console().table(title, columns, rows, out=True)
        for line in self.lines:
            console().say(line)
        console().result(self.data)
        if self.status:
            raise SystemExit(self.status)
