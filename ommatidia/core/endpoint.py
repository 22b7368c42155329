"""Endpoint: a language model behind OpenAI's chat protocol, and its replies kept on disk as they come.

Nothing is drawn at random: the same question is asked greedily and its reply kept by the digest of model and question,
so that what was asked once is not asked again, in this process or after a kill.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ommatidia.core.config import digest
from ommatidia.core.errors import DiskError, RunError

_PATIENCE = 8
"""Failures in a row, before any reply, after which nobody is taken to be there."""


class EndpointError(RunError):
    """No reply to one question: the endpoint timed out, refused, or spoke another protocol."""


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

    @property
    def name(self) -> str:
        return self.model

    def ask(self, prompt: str) -> str:
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            if self.pace is not None:
                self.pace.wait()
            try:
                return self._ask(prompt)
            except EndpointError:
                if attempt + 1 == self.attempts:
                    raise
        raise EndpointError(f"{self.name}: no attempt is allowed")

    def _ask(self, prompt: str) -> str:
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request, build_opener

        turns = [{"role": "user", "content": prompt}]
        body = json.dumps({"model": self.model, "messages": turns, "temperature": 0}).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with build_opener(_no_redirects()).open(request, timeout=self.timeout) as response:
                text = json.loads(response.read())["choices"][0]["message"]["content"]
        except HTTPError as error:
            if target := error.headers.get("Location"):
                raise EndpointError(
                    f"{self.name}: {self.url} redirects to {target!r} (status {error.code}); a redirect is not "
                    "followed, since the key would go with it; name that address itself if you trust it"
                ) from None
            raise EndpointError(f"{self.name}: refused with status {error.code}") from None
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
        return text


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

    def stream(
        self, prompts: Iterable[str], *, pace: Pace | None = None
    ) -> Iterator[tuple[str, Reply | EndpointError]]:
        """Every question with its reply or failure, in order, as they come; only those that are not held go out.

        Raises RunError when none of the first that go out is answered: nobody is there, and asking on would only wait.
        Raises DiskError when a reply cannot be kept.
        """
        answered = failed = 0
        with ThreadPoolExecutor(self.workers) as pool:
            for group in _groups(prompts, self.workers):
                for prompt, reply in zip(group, pool.map(self._one, group)):
                    answered += isinstance(reply, Reply) and not reply.held
                    failed += isinstance(reply, EndpointError)
                    if not answered and failed >= max(_PATIENCE, self.workers):
                        raise RunError(f"none of {failed} questions to the {self._who} was answered; the last: {reply}")
                    yield prompt, reply

    def _one(self, prompt: str) -> Reply | EndpointError:
        key = self.key(prompt)
        if (held := self._held.get(key)) is not None:
            return held
        try:
            reply = Reply(self.model.ask(prompt), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        except EndpointError as error:
            return error
        self._keep(key, reply)
        return reply

    def _keep(self, key: str, reply: Reply) -> None:
        facts: Mapping[str, Any] = {"digest": key, self._who: self.model.name, "reply": reply.text, "time": reply.time}
        with self._lock:
            self._held[key] = Reply(reply.text, reply.time, held=True)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab") as file:
                    file.write(json.dumps(facts, ensure_ascii=False).encode() + b"\n")
            except OSError as error:
                raise DiskError(f"{self.path}: cannot keep a {self._who}'s reply: {error.strerror}") from None


def _groups(prompts: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(prompts)
    while group := list(islice(rest, size)):
        yield group
