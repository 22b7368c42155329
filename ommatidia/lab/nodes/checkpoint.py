"""Checkpoint: a trained design as one self-describing folder that loads anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ommatidia.core.contents import Contents
from ommatidia.lab.nodes.job import Finding, Job
from ommatidia.lab.nodes.requirements import encoder_faults, language_faults
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import Weights
from ommatidia.lab.price.price import Price
from ommatidia.models.cost import cost_by_part
from ommatidia.models.pretrained import save


@dataclass(frozen=True)
class CheckpointJob(Job):
    """The whole model, trunks included."""

    kind: ClassVar[str] = "checkpoint"
    version: ClassVar[int] = 2

    weights: Weights
    name: str

    @property
    def label(self) -> str:
        return f"checkpoint of {self.name}"

    def identity(self) -> Any:
        return self.weights.identity()

    def needs(self) -> tuple[Job, ...]:
        return self.weights.needs()

    def reads(self) -> dict[str, Contents]:
        return self.weights.reads()

    def price(self) -> Price:
        costs = cost_by_part(self.weights.model, text_tokens=0, views=1, head_tokens=0)
        parameters = sum(cost.parameters for cost in costs.values())
        return Price(0.0, 4 * parameters, 0, parameters, 0)

    def findings(self, *, pixels: bool) -> Iterator[Finding]:
        """Whether the whole model can be built: its trunks too, whose features a store may hold already."""
        faults = [encoder_faults(name, encoder) for name, encoder in self.weights.model.encoders.items()]
        return (Finding.of(fault) for some in (*faults, language_faults(self.weights.model.language)) for fault in some)

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        whole = Weights(self.weights.model, self.weights.seed, self.weights.overlays)
        save(whole.build(store), whole.model, out / "model", notes={"design": self.name, "seed": whole.seed})
        return {}
