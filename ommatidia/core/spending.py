"""Spending: tokens and cost of the calls to a paid endpoint, written down as they come, and a cap on both.

A call reserves what it is expected to take before it begins, so that calls in flight count towards the cap as well.
Where an endpoint reports no usage, a token counts as four bytes of UTF-8.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ommatidia.core.errors import DiskError, RunError

_ANSWER = 256
"""Tokens that an answer is expected to have before any came."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Cost of a million tokens, in any one currency."""

    question: float = 0.0
    answer: float = 0.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of questions and of answers."""

    question: int = 0
    answer: int = 0

    @property
    def total(self) -> int:
        return self.question + self.answer

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.question + other.question, self.answer + other.answer)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.question - other.question, self.answer - other.answer)

    def cost(self, prices: Prices) -> float:
        """In the currency of the prices."""
        return (self.question * prices.question + self.answer * prices.answer) / 1e6


class Ledger:
    """What all runs spent, one JSON line a call in ``path``. Safe to share between threads, not between processes.

    Args:
        path: where calls are written down; what it holds already counts.
        prices: of a million tokens.
        tokens_most: no call begins that is expected to pass so many tokens in all; None: no cap.
        cost_most: the same for the cost.
        answer_most: the longest answer that the endpoint is asked for, in tokens; None: it decides.

    Raises:
        RunError: the file is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        prices: Prices | None = None,
        tokens_most: int | None = None,
        cost_most: float | None = None,
        answer_most: int | None = None,
    ) -> None:
        self.path, self.prices = path, prices or Prices()
        self._tokens_most, self._cost_most, self._answer_most = tokens_most, cost_most, answer_most
        self._lock = threading.Lock()
        self._calls, self._spent, self._reserved = 0, Tokens(), Tokens()
        if path.exists():
            self._read()

    @property
    def spent(self) -> Tokens:
        """By all calls of this and earlier runs."""
        return self._spent

    @property
    def cost(self) -> float:
        """Of what is spent."""
        return self._spent.cost(self.prices)

    def estimate(self, prompts: Iterable[str]) -> Tokens:
        """What questions are expected to take: answers as long as those so far, or as the longest allowed."""
        answer = self._answer_most or (self._spent.answer // self._calls if self._calls else _ANSWER)
        sizes = [count_tokens(prompt) for prompt in prompts]
        return Tokens(sum(sizes), answer * len(sizes))

    def reserve(self, prompt: str) -> Tokens | str:
        """What this call is expected to take, set aside until ``settle``; or which cap it would pass."""
        with self._lock:
            expected = self.estimate([prompt])
            total = self._spent + self._reserved + expected
            if self._tokens_most is not None and total.total > self._tokens_most:
                return f"tokens_most of {self._tokens_most:,} is reached ({self._spent.total:,} are spent)"
            if self._cost_most is not None and total.cost(self.prices) > self._cost_most:
                return f"cost_most of {self._cost_most:g} is reached ({self.cost:.4g} is spent)"
            self._reserved += expected
            return expected

    def settle(self, reserved: Tokens, spent: Tokens | None) -> None:
        """The call is over; ``spent`` is what it took, None: nothing. Raises DiskError."""
        with self._lock:
            self._reserved -= reserved
            if spent is None:
                return
            self._spent, self._calls = self._spent + spent, self._calls + 1
            line = json.dumps({"question_tokens": spent.question, "answer_tokens": spent.answer})
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab") as file:
                    file.write(line.encode() + b"\n")
            except OSError as error:
                raise DiskError(f"{self.path}: cannot write down a call: {error.strerror}") from None

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                call = json.loads(line)
                tokens = Tokens(int(call["question_tokens"]), int(call["answer_tokens"]))
            except (ValueError, KeyError, TypeError):
                raise RunError(f"{self.path}, line {number}: not a call's tokens; the file is damaged") from None
            self._spent, self._calls = self._spent + tokens, self._calls + 1
        if whole < len(content):  # torn by a kill
            with self.path.open("r+b") as file:
                file.truncate(whole)


def count_tokens(text: str) -> int:
    """An estimate: four bytes of UTF-8 a token."""
    return -(-len(text.encode(errors="replace")) // 4)
