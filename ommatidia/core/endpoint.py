"""Endpoint: a language model behind OpenAI's chat protocol, and its replies kept on disk as they come.

Nothing is drawn at random: the same question is asked greedily and its reply kept by the digest of model and question,
so that what was asked once is not asked again, in this process or after a kill.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ommatidia.core.config import digest
from ommatidia.core.errors import DiskError, RunError, UnansweredError
from ommatidia.core.spending import Ledger, Tokens, count_tokens

_AHEAD = 64
"""Questions a worker that may be answered before the first of them, whose turn to be handed on it is."""
_LONGEST_WAIT = 600.0
"""Seconds of a Retry-After that are waited; who asks for more is asked another day."""
_PATIENCE = 8
"""Failures in a row, before any reply, after which nobody is taken to be there."""


class EndpointError(RunError):
    """No reply to one question: the endpoint timed out, refused, or spoke another protocol.

    ``retry_after``: seconds that the endpoint wants to be left alone; None: it did not say.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class CapReachedError(EndpointError):
    """A question was not asked, since it would pass the cap on tokens or cost."""


class Answering(Protocol):
    """Answers a question in words, the same question always alike as far as it can."""

    @property
    def name(self) -> str:
        """Stands beside everything that it said."""
        ...

    def ask(self, prompt: str) -> str:
        """Raises EndpointError."""
        ...


class Pace:
    """Lets at most so many calls a minute begin, evenly spaced, over all threads."""

    def __init__(self, per_minute: float) -> None:
        self._apart = 60.0 / per_minute
        self._next, self._lock = 0.0, threading.Lock()

    def wait(self) -> None:
        """Returns when it is this call's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._apart
        time.sleep(max(0.0, turn - now))

    def hold(self, seconds: float) -> None:
        """Let no call begin for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


@dataclass(frozen=True)
class Endpoint:
    """A chat endpoint in the form that OpenAI's has: ``url`` + /chat/completions, greedy."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    """Seconds for one attempt."""
    attempts: int = 3
    pause: float = 2.0
    """Seconds before the second attempt; twice as long before each further one."""
    pace: Pace | None = field(default=None, repr=False, compare=False)
    """Where attempts wait for their turn; None: they do not."""
    ledger: Ledger | None = field(default=None, repr=False, compare=False)
    """Where tokens are counted and capped; None: nowhere."""
    answer_most: int | None = None
    """Tokens of the longest answer, as ``max_tokens`` of the request; None: the endpoint decides."""

    @property
    def name(self) -> str:
        return self.model

    def ask(self, prompt: str) -> str:
        wait = 0.0
        for attempt in range(self.attempts):
            time.sleep(wait)
            if self.pace is not None:
                self.pace.wait()
            try:
                return self._ask_within_cap(prompt)
            except CapReachedError:
                raise
            except EndpointError as error:
                asked = error.retry_after or 0.0
                if attempt + 1 == self.attempts or asked > _LONGEST_WAIT:
                    raise
                wait = max(self.pause * 2**attempt, asked)
                if asked and self.pace is not None:
                    self.pace.hold(asked)  # of the other workers' calls too
        raise EndpointError(f"{self.name}: no attempt is allowed")

    def _ask_within_cap(self, prompt: str) -> str:
        if self.ledger is None:
            return self._ask(prompt)[0]
        reserved = self.ledger.reserve(prompt)
        if isinstance(reserved, str):
            raise CapReachedError(f"{self.name}: not asked; {reserved}")
        spent = None
        try:
            text, spent = self._ask(prompt)
            return text
        finally:
            self.ledger.settle(reserved, spent)

    def _ask(self, prompt: str) -> tuple[str, Tokens]:
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request, build_opener

        turns = [{"role": "user", "content": prompt}]
        longest = {} if self.answer_most is None else {"max_tokens": self.answer_most}
        body = json.dumps({"model": self.model, "messages": turns, "temperature": 0, **longest}).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with build_opener(_no_redirects()).open(request, timeout=self.timeout) as response:
                said = json.loads(response.read())
                text = said["choices"][0]["message"]["content"]
        except HTTPError as error:
            if target := error.headers.get("Location"):
                raise EndpointError(
                    f"{self.name}: {self.url} redirects to {target!r} (status {error.code}); a redirect is not "
                    "followed, since the key would go with it; name that address itself if you trust it"
                ) from None
            wait = read_retry_after(error.headers.get("Retry-After"))
            later = "" if wait is None else f"; it wants to be asked again in {wait:g} s"
            raise EndpointError(f"{self.name}: refused with status {error.code}{later}", retry_after=wait) from None
        except TimeoutError:
            raise EndpointError(f"{self.name}: no reply within {self.timeout:g} s") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            late = isinstance(reason, TimeoutError)
            raise EndpointError(
                f"{self.name}: {f'no reply within {self.timeout:g} s' if late else f'cannot be reached ({reason})'}"
            ) from None
        except (ValueError, KeyError, IndexError, TypeError):
            raise EndpointError(f"{self.name}: the reply is not in the form of a chat endpoint") from None
        if not isinstance(text, str):
            raise EndpointError(f"{self.name}: the reply holds no text")
        return text, _read_usage(said.get("usage"), prompt, text)


def _read_usage(usage: Any, prompt: str, text: str) -> Tokens:
    """Tokens as the endpoint counts them; estimated where it does not say."""
    counts = usage if isinstance(usage, dict) else {}
    asked, answered = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if isinstance(asked, int) and isinstance(answered, int) and min(asked, answered) >= 0:
        return Tokens(asked, answered)
    return Tokens(count_tokens(prompt), count_tokens(text))


def read_retry_after(value: str | None) -> float | None:
    """Seconds to wait by the header Retry-After, a number or a date; None: there is none that can be read."""
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    now = datetime.now(UTC)
    return max(0.0, (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - now.timestamp())


def _no_redirects() -> Any:
    """A handler under which every redirect is an HTTPError: urllib would send the key on to any host it is given."""
    from urllib.request import HTTPRedirectHandler

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    return NoRedirects()


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said, when, and whether it was held already."""

    text: str
    time: str
    """When it came, UTC; empty where an older file does not say."""
    held: bool = False


class Replies:
    """Replies of one model kept on disk: one JSON line each, by the digest of model and question, written as they come.

    A kill loses the calls that are on their way; a line torn by it is cut off. Safe to share between threads, not
    between processes.
    """

    def __init__(self, model: Answering, path: Path, *, who: str = "model", workers: int = 1) -> None:
        self.model, self.path, self.workers = model, path, workers
        self._who, self._lock = who, threading.Lock()
        self._held: dict[str, Reply] = {}
        self._came = self._failed = 0  # of the stream under way
        self._gave_up: UnansweredError | None = None
        if path.exists():
            self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                record = json.loads(line)
                self._held[record["digest"]] = Reply(record["reply"], record.get("time", ""), held=True)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise RunError(f"{self.path}, line {number}: not a {self._who}'s reply; the file is damaged") from None
        if whole < len(content):  # torn by a kill
            os.truncate(self.path, whole)

    def key(self, prompt: str) -> str:
        """The address of a question to this model."""
        return digest([self.model.name, prompt])

    def ask_all(self, prompts: Sequence[str]) -> dict[str, str | EndpointError]:
        """A reply or its failure for each question; raises as ``stream`` does."""
        return {p: said.text if isinstance(said, Reply) else said for p, said in self.stream(dict.fromkeys(prompts))}

    def holds(self, prompt: str) -> bool:
        """Whether the reply to a question is there already."""
        return self.key(prompt) in self._held

    def stream(self, prompts: Iterable[str]) -> Iterator[tuple[str, Reply | EndpointError]]:
        """Every question with its reply or failure, in order; only those that are not held go out.

        A worker that is free takes the next question, whichever are still on their way. Raises UnansweredError when
        none of the first that go out is answered: nobody is there, and asking on would only wait. Raises DiskError
        when a reply cannot be kept.
        """
        rest = iter(prompts)
        self._came, self._failed, self._gave_up = 0, 0, None
        window: deque[tuple[str, Future[Reply | EndpointError | UnansweredError]]] = deque()
        pool = ThreadPoolExecutor(self.workers)
        try:
            while True:
                while len(window) < _AHEAD * self.workers and (prompt := next(rest, None)) is not None:
                    window.append((prompt, pool.submit(self._one, prompt)))
                if not window:
                    return
                prompt, future = window.popleft()
                reply = future.result()
                if isinstance(reply, UnansweredError):
                    raise reply
                yield prompt, reply
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, prompt: str) -> Reply | EndpointError | UnansweredError:
        key = self.key(prompt)
        if (held := self._held.get(key)) is not None:
            return held
        if self._gave_up is not None:
            return self._gave_up
        try:
            reply = Reply(self.model.ask(prompt), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        except EndpointError as error:
            self._count_failure(error)
            return error
        self._keep(key, reply)
        return reply

    def _count_failure(self, error: EndpointError) -> None:
        """After this many without a single reply, what is still waiting is not asked."""
        with self._lock:
            self._failed += not isinstance(error, CapReachedError)
            if not self._came and self._gave_up is None and self._failed >= max(_PATIENCE, self.workers):
                self._gave_up = UnansweredError(
                    f"none of {self._failed} questions to the {self._who} was answered; the last: {error}"
                )

    def _keep(self, key: str, reply: Reply) -> None:
        facts: Mapping[str, Any] = {"digest": key, self._who: self.model.name, "reply": reply.text, "time": reply.time}
        with self._lock:
            self._held[key] = Reply(reply.text, reply.time, held=True)
            self._came += 1
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab") as file:
                    file.write(json.dumps(facts, ensure_ascii=False).encode() + b"\n")
            except OSError as error:
                raise DiskError(f"{self.path}: cannot keep a {self._who}'s reply: {error.strerror}") from None
