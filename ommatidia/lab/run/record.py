"""The record of a search or run: what planning knew, written while it runs, so that every later look plans nothing.

It lies at ``store/searches/<name>.json`` from the first second on and names the nodes behind each trial by key. What
came of a trial is read from its nodes, so a record stays true while the search goes on.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ommatidia.core.errors import RunError
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.price import Price

LAYOUT: Final = 2
"""Raised by hand when the fields below change their meaning."""


class Entry(BaseModel):
    """Base of the parts of a record: plain frozen values."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeEntry(Entry):
    """One node of a plan."""

    kind: str
    label: str
    version: int
    """Of the node's kind when it was planned."""
    flops: float


class StageEntry(Entry):
    """One training: the key of its node and what its loss curve is called."""

    key: str
    name: str


class TrialEntry(Entry):
    """One recipe of a search: its nodes by key, and what is known of the design before anything runs."""

    recipe: dict[str, Any]
    design: str
    """Address of the design: the recipe's digest without its seed."""
    label: str
    seed: int
    nodes: dict[str, NodeEntry]
    """Everything the recipe needs by key, needs first, the checkpoint left out."""
    training: tuple[StageEntry, ...]
    predictions: dict[str, str]
    """Keys by ``benchmark/mode``."""
    galleries: dict[str, str]
    """Keys by benchmark."""
    checkpoint: str
    price: Price
    """Of its trainings."""
    flops_alone: float
    """Of all its nodes if it shared none of them and stored no features."""
    visual_tokens: int
    parameters: int
    flops_per_sample: float
    """Of one question with an image of the largest size."""

    @property
    def address(self) -> str:
        """Of the trial among those of a search: its design and its seed."""
        return f"{self.design}/{self.seed}"

    @property
    def results(self) -> tuple[str, ...]:
        """Keys of the nodes that a finished trial has."""
        return (*(stage.key for stage in self.training), *self.predictions.values(), *self.galleries.values())


class BenchmarkEntry(Entry):
    """One benchmark as it was when it was planned or last scored."""

    group: str
    questions: int
    version: int
    scorer: str
    scorer_version: int


class AnswersEntry(Entry):
    """Answers that an analysis asked for: in another mode, or without some experts."""

    key: str
    node: NodeEntry
    benchmark: str
    mode: str
    experts: tuple[str, ...] = ()
    """Those taken away."""


class AnalysisEntry(Entry):
    """One analysis: the trial it is about, by its address, and the answers it rests on."""

    trial: str
    answers: tuple[AnswersEntry, ...]


class RunEntry(Entry):
    """What carrying it out took the last time."""

    executed: int = 0
    reused: int = 0
    failed: int = 0
    seconds: float = 0.0
    flops: float = 0.0


@dataclass(frozen=True, slots=True)
class SearchSeeds:
    """The seeds of a search."""

    final: tuple[int, ...] = ()
    """Of the designs on the final table; empty for a run."""
    choosing: tuple[int, ...] = ()
    """By which the strategy chose what to train again: scores with them flatter what was chosen."""


ANY_SEEDS = SearchSeeds()
"""Of a run, or of trials without a search."""


class SearchRecord(Entry):
    """What a search or run asked for, in order, and where its results lie."""

    layout: Literal[2] = LAYOUT
    name: str
    command: str
    definition: dict[str, Any]
    choosing_seeds: tuple[int, ...] = ()
    """Seeds by which the strategy chose what to train again; see ``Strategy.choosing_seeds``."""
    finished: bool = False
    """Whether the strategy had nothing more to ask; False while it runs and after a kill."""
    benchmarks: dict[str, BenchmarkEntry] = {}
    trials: tuple[TrialEntry, ...] = ()
    analyses: dict[str, AnalysisEntry] = {}
    scores: dict[str, str] = {}
    """Documents of the store with scores made again, by the key of the node that holds the answers."""
    run: RunEntry = RunEntry()

    @property
    def nodes(self) -> dict[str, NodeEntry]:
        """The nodes of all trials by key, needs first."""
        return {key: node for trial in self.trials for key, node in trial.nodes.items()}

    @property
    def seeds(self) -> SearchSeeds:
        """Which seeds its strategy trains finals with, and chooses by."""
        return SearchSeeds(tuple(self.definition.get("strategy", {}).get("seeds", ())), self.choosing_seeds)

    @property
    def asked(self) -> dict[str, NodeEntry]:
        """The nodes of the analyses by key, those that are also of a trial among them."""
        return {one.key: one.node for entry in self.analyses.values() for one in entry.answers}

    @property
    def owners(self) -> dict[str, tuple[str, ...]]:
        """Labels of the designs that need each node, by key."""
        found: dict[str, dict[str, None]] = {}
        for trial in self.trials:
            for key in trial.nodes:
                found.setdefault(key, {})[trial.label] = None
        return {key: tuple(labels) for key, labels in found.items()}


def _place(name: str) -> str:
    return f"searches/{name}.json"


def save_record(record: SearchRecord, store: Store) -> None:
    """Write it in one piece, instead of the one that was there."""
    store.write_json(_place(record.name), record.model_dump(mode="json"))


def load_record(store: Store, name: str) -> SearchRecord:
    """Raises RunError when it is missing, torn or of another layout."""
    data = store.read_json(_place(name))
    if data.get("layout") != LAYOUT:
        raise RunError(
            f"{store.root / _place(name)}: layout {data.get('layout', 1)}, expected {LAYOUT}: another version of "
            "Ommatidia wrote it; run the search again: it reuses the nodes that are finished and writes its record anew"
        )
    try:
        return SearchRecord.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{store.root / _place(name)}: {place}: {first['msg']}") from None


def has_record(store: Store, name: str) -> bool:
    return (store.root / _place(name)).is_file()


def set_aside(record: SearchRecord, store: Store) -> str | None:
    """Keep a record whose name another search is about to take, as NAME.1, NAME.2 ...; the name it has now.

    None where it holds nothing. One that the same search left aside before is replaced.
    """
    if not record.trials:
        return None
    before = left_aside(store, record.name, record.definition)
    free = (f"{record.name}.{number}" for number in count(1))
    name = before.name if before is not None else next(name for name in free if not has_record(store, name))
    save_record(record.model_copy(update={"name": name}), store)
    return name


def left_aside(store: Store, name: str, definition: Mapping[str, Any]) -> SearchRecord | None:
    """The record of this search that was set aside when another one took its name; None where there is none."""
    for place in sorted((store.root / "searches").glob(f"{glob.escape(name)}.*.json")):
        try:
            found = load_record(store, place.stem)
        except RunError:
            continue
        if found.definition == definition:
            return found
    return None
