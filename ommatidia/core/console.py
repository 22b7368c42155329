"""The one place that talks to a terminal: log lines, tables, progress bars with time left, machine-readable results.

Words for people go to stderr, results to stdout, so that ``omma ... --json | jq`` works. Only rank 0 of a distributed
run speaks. Quiet means: no log, no bars; warnings and errors still appear.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console as RichConsole
from rich.markup import escape as _escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

_PIPED_WIDTH = 240
"""Columns a table may take in a file or pipe, where nothing has to fit a window."""


def _stream(**options: bool) -> RichConsole:
    stream = RichConsole(highlight=False, **options)  # type: ignore[arg-type]
    if not stream.is_terminal and "COLUMNS" not in os.environ:
        stream.width = _PIPED_WIDTH
    return stream


def escape(text: str) -> str:
    """Text that is no markup, and that every stream can write: half a character is shown by its code."""
    return _escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


@dataclass(slots=True)
class Console:
    """How this process talks. ``json_only`` silences people's words and lets ``result`` print one JSON document."""

    quiet: bool = False
    json_only: bool = False
    err: RichConsole = field(default_factory=lambda: _stream(stderr=True))
    out: RichConsole = field(default_factory=lambda: _stream(soft_wrap=True))
    _bars: Progress | None = None

    @property
    def silent(self) -> bool:
        return self.quiet or self.json_only or _rank() != 0

    def log(self, text: str) -> None:
        """One line of news."""
        if not self.silent:
            self.err.print(escape(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        if _rank() == 0:
            self.err.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)

    def error(self, text: str) -> None:
        self.err.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)

    def fail(self, error: BaseException, otherwise: str = "") -> None:
        """What ends the program. Of a distributed run's ranks each says its own, and rank 0 what ends them all."""
        text = str(error) or otherwise
        if getattr(error, "everywhere", False) or "RANK" not in os.environ:
            if _rank() == 0:
                self.error(text)
        else:
            self.error(f"rank {_rank()}: {text}")

    def say(self, text: str) -> None:
        """A result in words, on stdout; nothing in JSON mode."""
        if not self.json_only and _rank() == 0:
            self.out.print(escape(text))

    def result(self, data: Any) -> None:
        """A result as data: one JSON document on stdout in JSON mode, nothing otherwise."""
        if self.json_only and _rank() == 0:
            text = json.dumps(data, ensure_ascii=False, indent=2, default=str)
            # Half a character becomes its JSON escape, which reads back as itself.
            sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, out: bool = False) -> None:
        """A table; numbers align right. ``out`` sends it to stdout as a result instead of to the log."""
        rows = [[str(cell) for cell in row] for row in rows]
        if (self.json_only if out else self.silent) or _rank() != 0:
            return
        table = Table(box=None, pad_edge=False)
        for i, column in enumerate(columns):
            numeric = bool(rows) and all(_is_number(row[i]) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        stream = self.out if out else self.err
        if title:
            stream.print(f"[bold]{escape(title)}[/]")
        stream.print(table)

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None, *, done: int = 0) -> Iterator[Bar]:
        """A bar with time left, nested freely. Where stderr is no terminal, a line now and then instead."""
        if self.silent:
            yield Bar()
            return
        if not self.err.is_terminal:
            yield _LineBar(self, label, total, done)
            return
        outermost = self._bars is None
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=self.err, transient=True,
            )  # fmt: skip
            self._bars.start()
        task = self._bars.add_task(escape(label), total=total, completed=done, note="")
        try:
            yield _RichBar(self._bars, task)
        finally:
            self._bars.remove_task(task)
            if outermost:
                self._bars.stop()
                self._bars = None


class Bar:
    """What ``progress`` yields: advance it, and leave a note such as the current loss."""

    def advance(self, n: int = 1, *, note: str = "") -> None:
        return


class _RichBar(Bar):
    def __init__(self, bars: Progress, task: Any) -> None:
        self._progress, self._task = bars, task

    def advance(self, n: int = 1, *, note: str = "") -> None:
        self._progress.update(self._task, advance=n, note=escape(note))


class _LineBar(Bar):
    """For logs that are files: one line each ten seconds."""

    def __init__(self, console: Console, label: str, total: int | None, done: int) -> None:
        self._console, self._label, self._total, self._done, self._start = console, label, total, done, done
        self._began = self._spoke = time.monotonic()

    def advance(self, n: int = 1, *, note: str = "") -> None:
        self._done += n
        now = time.monotonic()
        if now - self._spoke < 10:
            return
        self._spoke = now
        left = ""
        if self._total and self._done > self._start:
            seconds = (now - self._began) / (self._done - self._start) * (self._total - self._done)
            left = f", {seconds:.0f} s left"
        self._console.log(f"{self._label}: {self._done}/{self._total or '?'}{left} {note}".rstrip())


def shell_line(*words: object) -> str:
    """A command to be pasted into a shell, its words quoted where they must be."""
    return shlex.join(map(str, words))


def _is_number(text: str) -> bool:
    return text.strip("-+%$ ").replace(".", "").replace(",", "").isdigit() or text in ("", "-")


_current: ContextVar[Console | None] = ContextVar("console", default=None)


def console() -> Console:
    """The console of this context; an ordinary one until ``use`` sets another."""
    current = _current.get()
    if current is None:
        current = Console()
        _current.set(current)
    return current


@contextlib.contextmanager
def use(new: Console) -> Iterator[Console]:
    """Talk through ``new`` inside the block."""
    token = _current.set(new)
    try:
        yield new
    finally:
        _current.reset(token)
