"""Examples: questions of the galleries with every design's reply."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import mean

from ommatidia.lab.report.model import ExampleCard, Reply
from ommatidia.lab.report.nodes import NodeReader
from ommatidia.lab.run.trial import Trial

_CARDS = 12


def examples_of(working: Sequence[Trial], names: Mapping[str, str], reader: NodeReader) -> list[ExampleCard]:
    """Questions from every benchmark's gallery; those that divide the designs come first. One trial a design."""
    recorded = [trial for trial in working if trial.entry is not None]
    if not recorded or recorded[0].entry is None:
        return []
    benchmarks = [benchmark.name for benchmark in recorded[0].recipe.benchmarks]
    cards: list[ExampleCard] = []
    for benchmark in benchmarks:
        replies = {names[trial.design]: _replies(trial, benchmark, reader) for trial in recorded}
        found = _cards(recorded[0].entry.galleries[benchmark], benchmark, replies, reader)
        found.sort(key=lambda pair: pair[0])
        cards += [card for _, card in found[: max(1, math.ceil(_CARDS / len(benchmarks)))]]
    return cards[:_CARDS]


def _replies(trial: Trial, benchmark: str, reader: NodeReader) -> dict[str, Reply]:
    """A design's replies to one benchmark by sample id."""
    key = trial.entry.predictions.get(f"{benchmark}/full") if trial.entry else None
    if key is None or (benchmark, "full") not in trial.scored:
        return {}
    values = {score.id: score.value for score in trial.scored[benchmark, "full"].scores}
    texts = reader.texts("prediction", key)
    return {sample: Reply(text, values.get(sample, 0.0) >= 0.5) for sample, text in texts.items()}


def _cards(
    key: str, benchmark: str, replies: Mapping[str, Mapping[str, Reply]], reader: NodeReader
) -> list[tuple[float, ExampleCard]]:
    """A gallery's cards, each with its distance from a question that half of the designs get right."""
    listed = reader.file("gallery", key, "cards.json")
    found = []
    for card in json.loads(listed.read_text(encoding="utf-8")) if listed else []:
        given = {name: said[card["id"]] for name, said in replies.items() if card["id"] in said}
        share = mean(reply.correct for reply in given.values()) if given else 0.0
        if (path := reader.file("gallery", key, card["image"])) is None:
            continue
        shown = ExampleCard(benchmark, card["question"], card["answer"], path.read_bytes(), given)
        found.append((abs(share - 0.5), shown))
    return found
