"""The quickstart's tuned mixture, ready to train: real samples, stored features of the right shape, arbitrary weights.

Operations and speed do not depend on the values, so nothing has to be trained or encoded before they are measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ommatidia.core.grid import Grid
from ommatidia.core.types import Example, Sample
from ommatidia.data.loader import Loader
from ommatidia.lab.nodes.training import TrainingJob
from ommatidia.lab.run.plan import plan_trial
from ommatidia.models.build import build_model
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.recipes.quickstart import design
from ommatidia.train.trainer import Collate, Trainer


@dataclass(frozen=True)
class TunedStage:
    """The last stage of ``quickstart.design`` as its training job, with everything a step needs."""

    job: TrainingJob
    model: MLLM
    processor: Processor
    stored: frozenset[str]
    """Encoders whose trunks are replaced by stored features."""

    @classmethod
    def make(cls, *, micro_batch: int | None = None) -> TunedStage:
        """``micro_batch`` overrides the recipe's."""
        job = plan_trial(design()).training[-1]
        if micro_batch is not None:
            job = TrainingJob(job.weights, job.stage.model_copy(update={"micro_batch": micro_batch}), job.seed)
        config = job.weights.model
        stored = frozenset(feature.name for feature in job.weights.features)
        features = {name: _constant(config.encoders[name].trunk_grid()) for name in stored}
        return cls(
            job, build_model(config, seed=0, without_trunks=stored), Processor(config, features=features), stored
        )

    def batches(self) -> Iterator[list[Example]]:
        """The optimiser batches of the real stage, in order."""
        return iter(Loader(self.job.stage.data.open(), self._example, batch=self.job.stage.batch, seed=self.job.seed))

    def _example(self, sample: Sample) -> Example:
        return self.processor(sample)

    def prompts(self, count: int) -> list[Sample]:
        """The first samples of the stage's data."""
        data = self.job.stage.data.open()
        return [data.draw(position, seed=0) for position in range(count)]

    def trainer(self, *, collate: Collate | None = None) -> Trainer:
        """It keeps no files: only ``fit`` would write, and ``step`` is what is measured."""

        def none(start: int) -> Iterator[list[Example]]:
            return islice(self.batches(), start, start)

        folder = Path(tempfile.gettempdir()) / "not-written"
        chosen = collate or self.processor.collate
        return Trainer(self.model, self.job.stage, none, chosen, steps=self.job.steps, folder=folder, seed=0)


def _constant(grid: Grid) -> Callable[[str], Tensor]:
    features_KHWD = torch.full((1, grid.height, grid.width, grid.dim), 0.1, dtype=torch.float16)  # one view
    return lambda digest: features_KHWD
