"""Gallery: what a report says of a benchmark from the store alone: some samples in images and words, and the score of
a random guess."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError
from ommatidia.eval.benchmark import Benchmark, BenchmarkConfig
from ommatidia.eval.chance import chance
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.price import Price


@dataclass(frozen=True)
class GalleryJob(Job):
    """Evenly spaced samples of one benchmark."""

    kind: ClassVar[str] = "gallery"
    version: ClassVar[int] = 3

    benchmark: BenchmarkConfig
    count: int = 24

    @property
    def label(self) -> str:
        return f"gallery of {self.benchmark.name}"

    def identity(self) -> Any:
        return [self.benchmark.fingerprint(), self.count]

    def needs(self) -> tuple[Job, ...]:
        return ()

    def reads(self) -> dict[str, Contents]:
        return {"benchmark": self.benchmark.contents()}

    def price(self) -> Price:
        return Price(samples=self.count)

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        benchmark = self.benchmark.open()
        samples, cards = benchmark.samples(), []
        for number, index in enumerate(range(0, len(samples), max(1, len(samples) // self.count))):
            sample = samples[index]
            if not sample.images or number >= self.count:
                continue
            try:
                image = sample.images[0].open()
            except DataError:  # evaluation counts it; a report can do without
                continue
            image.thumbnail((256, 256))
            image.save(out / f"{number}.png")
            cards.append(
                {"id": sample.id, "image": f"{number}.png", "question": sample.question, "answer": sample.answer}
            )
        (out / "cards.json").write_text(json.dumps(cards, ensure_ascii=False))
        return {"cards": len(cards), "guess": _guess(benchmark)}


def _guess(benchmark: Benchmark) -> float | None:
    """None where a question cannot be read: evaluation says so."""
    try:
        return chance(benchmark)
    except DataError:
        return None
