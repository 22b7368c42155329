"""RankNotes: where the ranks of a run leave one another short notes that nobody has to wait for.

A collective needs everybody; a note does not, so it still arrives when a rank is gone or busy. Notes are small JSON
values under keys in one of torch's key-value stores: in memory for one process, over TCP for several.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from torch.distributed import HashStore, Store

_POLL = 0.05
"""Seconds between looks at a note that is being waited for."""


class RankNotes:
    """Notes by key. Every call is short: a store's client serves one call at a time, from whatever thread."""

    def __init__(self, store: Store | None = None) -> None:
        self._store = HashStore() if store is None else store

    def post(self, key: str, value: Any) -> None:
        """Leave a note, over an earlier one of the same key."""
        self._store.set(key, json.dumps(value, ensure_ascii=False))

    def read(self, key: str) -> Any:
        """The note, or None where there is none."""
        return json.loads(self._store.get(key)) if self._store.check([key]) else None

    def drop(self, key: str) -> None:
        """Take a note away, if it is there."""
        self._store.delete_key(key)

    def claim(self, key: str) -> int:
        """How many have claimed this key, this claim included."""
        return self._store.add(key, 1)

    def wait(self, key: str, *, limit: float, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """The note, waited for at most ``limit`` seconds; None when it did not come."""
        end = time.monotonic() + limit
        while (value := self.read(key)) is None and time.monotonic() < end:
            meanwhile()
            time.sleep(_POLL)
        return value
