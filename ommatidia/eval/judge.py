"""Judges: language models that read answers which rules cannot. Rules come first, and nothing is ever drawn at random.

A judge is an OpenAI-compatible endpoint named by the environment; its replies are kept on disk by the digest of what
was asked, so that scoring again asks nothing. A call that fails is a missing value, counted and shown.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError, DiskError, RunError

URL, MODEL, KEY = "OMMATIDIA_JUDGE_URL", "OMMATIDIA_JUDGE_MODEL", "OMMATIDIA_JUDGE_KEY"
WORKERS = 8
"""Questions that are on their way at one time."""


class JudgeError(RunError):
    """A judge gave no reply to one question: it timed out, refused, or spoke another protocol."""


class Judge(Protocol):
    """Answers a question in words, the same question always alike as far as it can."""

    @property
    def name(self) -> str:
        """Stands beside every score that it took part in."""
        ...

    def ask(self, prompt: str) -> str:
        """Raises JudgeError."""
        ...


@dataclass(frozen=True)
class EndpointJudge:
    """A chat endpoint in the form that OpenAI's has: ``url`` + /chat/completions, greedy."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    """Seconds for one attempt."""
    attempts: int = 3
    pause: float = 2.0
    """Seconds before the second attempt; twice as long before each further one."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> EndpointJudge | None:
        """The judge that the environment names; None without one. Raises ConfigError when half of it is named."""
        url, model = environment.get(URL, ""), environment.get(MODEL, "")
        if bool(url) != bool(model):
            raise ConfigError(f"{URL} and {MODEL} name a judge together; {MODEL if url else URL} is missing")
        if url and not url.startswith(("http://", "https://")):
            raise ConfigError(f"{URL}: {url!r} is no http address")
        return cls(url, model, environment.get(KEY, "")) if url else None

    @property
    def name(self) -> str:
        return self.model

    def ask(self, prompt: str) -> str:
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return self._ask(prompt)
            except JudgeError:
                if attempt + 1 == self.attempts:
                    raise
        raise JudgeError(f"{self.name}: no attempt is allowed")

    def _ask(self, prompt: str) -> str:
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen

        turns = [{"role": "user", "content": prompt}]
        body = json.dumps({"model": self.model, "messages": turns, "temperature": 0}).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with urlopen(request, timeout=self.timeout) as response:
                text = json.loads(response.read())["choices"][0]["message"]["content"]
        except HTTPError as error:
            raise JudgeError(f"{self.name}: refused with status {error.code}") from None
        except TimeoutError:
            raise JudgeError(f"{self.name}: no reply within {self.timeout:g} s") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            late = isinstance(reason, TimeoutError)
            raise JudgeError(
                f"{self.name}: {f'no reply within {self.timeout:g} s' if late else f'cannot be reached ({reason})'}"
            ) from None
        except (ValueError, KeyError, IndexError, TypeError):
            raise JudgeError(f"{self.name}: the reply is not in the form of a chat endpoint") from None
        if not isinstance(text, str):
            raise JudgeError(f"{self.name}: the reply holds no text")
        return text


class Replies:
    """A judge's replies, kept on disk: one JSON line each, by the digest of judge and question."""

    def __init__(self, judge: Judge, path: Path) -> None:
        self.judge, self.path = judge, path
        self._held: dict[str, str] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        for number, line in enumerate(self.path.read_bytes().split(b"\n")[:-1], start=1):
            try:
                record = json.loads(line)
                self._held[record["digest"]] = record["reply"]
            except (ValueError, KeyError, TypeError):
                raise RunError(f"{self.path}, line {number}: not a judge's reply; the file is damaged") from None

    def ask_all(self, prompts: Sequence[str]) -> dict[str, str | JudgeError]:
        """A reply or its failure for each question; only those that are not held go out.

        Raises RunError when the judge answers none of the first questions: it is not there, and asking on would only
        wait for it. Raises DiskError when replies cannot be kept.
        """
        keys = {prompt: digest([self.judge.name, prompt]) for prompt in prompts}
        missing = [prompt for prompt in keys if keys[prompt] not in self._held]
        found: dict[str, str | JudgeError] = {p: self._held[keys[p]] for p in keys if keys[p] in self._held}
        answered = 0
        for number, (prompt, reply) in enumerate(self._asked(missing), start=1):
            found[prompt] = reply
            if isinstance(reply, str):
                answered += 1
                self._keep(keys[prompt], reply)
            elif not answered and number >= WORKERS:
                raise RunError(f"none of {number} questions to the judge was answered; the last: {reply}")
        return found

    def _asked(self, prompts: Sequence[str]) -> Iterator[tuple[str, str | JudgeError]]:
        def ask(prompt: str) -> str | JudgeError:
            try:
                return self.judge.ask(prompt)
            except JudgeError as error:
                return error

        with ThreadPoolExecutor(WORKERS) as pool:
            for start in range(0, len(prompts), WORKERS):
                group = prompts[start : start + WORKERS]
                yield from zip(group, pool.map(ask, group))

    def _keep(self, key: str, reply: str) -> None:
        self._held[key] = reply
        line = json.dumps({"digest": key, "judge": self.judge.name, "reply": reply}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                file.seek(0)
                content = file.read()
                if content and not content.endswith(b"\n"):  # torn by a kill
                    file.truncate(content.rfind(b"\n") + 1)
                file.write(line.encode())
        except OSError as error:
            raise DiskError(f"{self.path}: cannot keep a judge's reply: {error.strerror}") from None
