"""Relay: what another process says, said by this one, so that lines and bars of several processes do not collide.

The other process uses a ``Relay`` as its console; this one gives every message that arrives to a ``Listener``.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ommatidia.core.console import Bar, Console, console

Message = tuple[Any, ...]
"""What is to be done, a key of ``Listener``'s table, and its arguments; plain data."""


@dataclass(slots=True)
class Relay(Console):
    """A console whose words and bars appear where ``send`` takes them."""

    send: Callable[[Message], None] = lambda message: None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def log(self, text: str) -> None:
        if not self.silent:
            self.send(("log", text))

    def warn(self, text: str) -> None:
        self.send(("warn", text))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, out: bool = False) -> None:
        if not self.silent:
            self.send(("table", title, list(columns), [[str(cell) for cell in row] for row in rows]))

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None, *, done: int = 0) -> Iterator[Bar]:
        if self.silent:
            yield Bar()
            return
        number = next(self._numbers)
        self.send(("begin", number, label, total, done))
        try:
            yield _RelayBar(self.send, number)
        finally:
            self.send(("end", number))


class _RelayBar(Bar):
    def __init__(self, send: Callable[[Message], None], number: int) -> None:
        self._send, self._number = send, number

    def advance(self, n: int = 1, *, note: str = "") -> None:
        self._send(("advance", self._number, n, note))


class Listener:
    """Says here what one other process says there."""

    def __init__(self) -> None:
        self._bars: dict[int, tuple[contextlib.ExitStack, Bar]] = {}
        self._does: dict[str, Callable[..., None]] = {
            "log": lambda text: console().log(text),
            "warn": lambda text: console().warn(text),
            "table": lambda title, columns, rows: console().table(title, columns, rows),
            "begin": self._begin,
            "advance": lambda number, n, note: self._bars[number][1].advance(n, note=note),
            "end": self._end,
        }

    def hear(self, message: Message) -> None:
        self._does[message[0]](*message[1:])

    def close(self) -> None:
        """Take away the bars of a process that is gone."""
        for number in list(self._bars):
            self._end(number)

    def _begin(self, number: int, label: str, total: int | None, done: int) -> None:
        stack = contextlib.ExitStack()
        self._bars[number] = stack, stack.enter_context(console().progress(label, total, done=done))

    def _end(self, number: int) -> None:
        self._bars.pop(number)[0].close()
