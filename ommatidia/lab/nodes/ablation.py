"""Ablation: a mixture's answers to one benchmark with some of its experts taken away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from ommatidia.core.errors import ConfigError
from ommatidia.eval.benchmark import Benchmark
from ommatidia.lab.nodes.job import Finding
from ommatidia.lab.nodes.prediction import PredictionJob
from ommatidia.lab.nodes.treatment import AblatedModel, AblatedSet
from ommatidia.models.ablation import check_without
from ommatidia.models.sharing import SharedFeatures

NOTHING = AblatedSet("zero", ())


@dataclass(frozen=True)
class AblationJob(PredictionJob):
    """A prediction under a treatment. Raises ConfigError when it is done where the fusion cannot do without."""

    kind: ClassVar[str] = "ablation"
    version: ClassVar[int] = 2

    taken: AblatedSet = NOTHING

    @property
    def label(self) -> str:
        return f"{super().label}, without {self.taken.name} ({self.taken.treatment})"

    def identity(self) -> Any:
        return [*super().identity(), self.taken.treatment, sorted(self.taken.experts)]

    def asked(self, benchmark: Benchmark, shared: SharedFeatures) -> AbstractContextManager[SharedFeatures]:
        return AblatedModel(benchmark, shared).under(self.taken)

    def findings(self, *, pixels: bool) -> Iterator[Finding]:
        """Whether the fusion can do without the experts, and what a prediction looks at."""
        if self.taken.treatment == "remove":
            try:
                check_without(self.weights.model, self.taken.experts)
            except ConfigError as error:
                yield Finding.of(error)
        yield from super().findings(pixels=pixels)
