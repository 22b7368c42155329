"""Interrupt: lets the step in progress finish when a signal asks the process to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from ommatidia.core.errors import RunError


class StoppedError(RunError):
    """SIGTERM asked the process to end, and what was earned is saved: no failure, and nothing else should start."""

    status = 128 + signal.SIGTERM


class Interrupt:
    """Whether SIGINT or SIGTERM has arrived since ``watch`` began."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        # Asked twice: the user does not want to wait for the step. A launcher that repeats itself does not mean it so.
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def watch() -> Iterator[Interrupt]:
    """Collect SIGINT and SIGTERM inside the block, and put back the handlers that were there.

    A signal that the block left without raising is passed on to those handlers, so that none is swallowed. Only the
    main thread may install handlers; elsewhere nothing is collected.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt._arrived) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            # None: the handler was installed by C code and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if interrupt.signal is not None:
        signal.raise_signal(interrupt.signal)
