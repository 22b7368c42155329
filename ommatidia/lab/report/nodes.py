"""Reading the nodes of a record for a page: what can be read is shown, and what is damaged is named and left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ommatidia.core.errors import DamagedError
from ommatidia.eval.scored import Scored
from ommatidia.lab.nodes.inputs import skipped
from ommatidia.lab.nodes.scores import read_scores, read_texts
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.run.record import SearchRecord


@dataclass
class NodeReader:
    """The nodes behind one record. ``damaged`` gathers what was found, by kind and key."""

    store: Store
    record: SearchRecord
    damaged: dict[tuple[str, str], str] = field(default_factory=dict)

    def node(self, kind: str, key: str) -> dict[str, Any] | None:
        """What a node says of itself; None where it is not there or damaged."""
        if not self.store.exists(kind, key):
            return None
        try:
            return self.store.record(kind, key)
        except DamagedError as error:
            self.damaged[kind, key] = error.reason
            return None

    def file(self, kind: str, key: str, name: str) -> Path | None:
        """One file of a node, compared with its checksum; None where it cannot be read."""
        if not self.store.exists(kind, key):
            return None
        try:
            return self.store.file(kind, key, name)
        except DamagedError as error:
            self.damaged[kind, key] = error.reason
            return None

    def scores(self, kind: str, key: str) -> Scored | None:
        """The scores of finished answers; None where they cannot be read."""
        if not self.store.exists(kind, key):
            return None
        try:
            return read_scores(self.store, kind, key, self.record.scores)
        except DamagedError as error:
            self.damaged[kind, key] = error.reason
            return None

    def texts(self, kind: str, key: str) -> Mapping[str, str]:
        """What the model said, by sample id; empty where it cannot be read."""
        if not self.store.exists(kind, key):
            return {}
        try:
            return read_texts(self.store, kind, key)
        except DamagedError as error:
            self.damaged[kind, key] = error.reason
            return {}

    def skipped(self) -> list[str]:
        """One sentence for each node that was made without some of its samples, which a tolerance let pass."""
        found = []
        for key, entry in self.record.nodes.items():
            lines = skipped(self.node(entry.kind, key) or {})
            if lines:
                count = "1 sample was" if len(lines) == 1 else f"{len(lines)} samples were"
                found.append(f"{entry.label}: {count} skipped; the first: {lines[0]}")
        return found

    def look_over(self) -> None:
        """Find nodes of which a file is missing or has another size, at the cost of a ``stat`` a file."""
        for key, node in (self.record.nodes | self.record.asked).items():
            if self.store.exists(node.kind, key) and (reason := self.store.damage(node.kind, key)):
                self.damaged.setdefault((node.kind, key), reason)
