"""Judges: language models that read answers which rules cannot. Rules come first, and nothing is ever drawn at random.

A judge is an OpenAI-compatible endpoint named by the environment; its replies are kept on disk by the digest of what
was asked, so that scoring again asks nothing. A call that fails is a missing value, counted and shown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ommatidia.core import endpoint
from ommatidia.core.endpoint import Answering as Judge
from ommatidia.core.endpoint import Endpoint
from ommatidia.core.endpoint import EndpointError as JudgeError
from ommatidia.core.errors import ConfigError

__all__ = ["KEY", "MODEL", "URL", "WORKERS", "EndpointJudge", "Judge", "JudgeError", "Replies", "replies_path"]

URL, MODEL, KEY = "OMMATIDIA_JUDGE_URL", "OMMATIDIA_JUDGE_MODEL", "OMMATIDIA_JUDGE_KEY"
WORKERS = 8
"""Questions that are on their way at one time."""


@dataclass(frozen=True)
class EndpointJudge(Endpoint):
    """A judge behind a chat endpoint."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> EndpointJudge | None:
        """The judge that the environment names; None without one. Raises ConfigError when half of it is named."""
        url, model = environment.get(URL, ""), environment.get(MODEL, "")
        if bool(url) != bool(model):
            raise ConfigError(f"{URL} and {MODEL} name a judge together; {MODEL if url else URL} is missing")
        if url and not url.startswith(("http://", "https://")):
            raise ConfigError(f"{URL}: {url!r} is no http address")
        return cls(url, model, environment.get(KEY, "")) if url else None


def replies_path(answers: Path, run: int = 0) -> Path:
    """Where a judge's replies about ``answers`` lie; each time that the same is asked again has a file of its own."""
    return answers.with_suffix(f".judge{f'-{run + 1}' if run else ''}.jsonl")


class Replies(endpoint.Replies):
    """A judge's replies, kept on disk beside the answers it read."""

    def __init__(self, judge: Judge, path: Path) -> None:
        super().__init__(judge, path, who="judge", workers=WORKERS)
