"""Training: one stage of one model. Its result is what it changed, so that designs sharing a stage share its result.

The trainer is imported where it trains: it brings torch's distributed tensors along, a second that no plan needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from safetensors.torch import load_file

from ommatidia.core.console import console
from ommatidia.core.contents import Contents
from ommatidia.core.errors import OmmatidiaError
from ommatidia.core.types import Example, Sample
from ommatidia.data.loader import Loader, Share
from ommatidia.data.mixture import Mixture
from ommatidia.lab.nodes.features import FeatureJob, joined
from ommatidia.lab.nodes.job import Computation, Finding, Job
from ommatidia.lab.nodes.records import check_stream
from ommatidia.lab.nodes.requirements import encoder_faults, language_faults, stage_faults, trained_parameters
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.cost import sample_tokens, training_price
from ommatidia.lab.price.price import Price
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.models.resizing import resized
from ommatidia.models.tensors import save_tensors
from ommatidia.train.distill import Distillation, Distiller
from ommatidia.train.metrics import FILE, read_metrics
from ommatidia.train.ranks import Ranks, ranks
from ommatidia.train.stage import Stage
from ommatidia.train.tracking import Tracking, write_curves

if TYPE_CHECKING:
    from ommatidia.train.parallel import Trainable
    from ommatidia.train.trainer import HeldOut


@dataclass(frozen=True)
class Overlay:
    """Weights an earlier training changed, limited to some parts of it."""

    job: TrainingJob
    parts: tuple[str, ...]

    def state(self, store: Store) -> dict[str, torch.Tensor]:
        """Tensors by ``part:parameter``, of the chosen parts."""
        state = load_file(self.job.folder(store) / "trained.safetensors")
        return {name: tensor for name, tensor in state.items() if name.partition(":")[0] in self.parts}


@dataclass(frozen=True)
class Weights:
    """A model and where its weights come from: its own start (from ``seed``), then each overlay in order."""

    model: MLLMConfig
    seed: int
    overlays: tuple[Overlay, ...]
    features: tuple[FeatureJob, ...] = ()
    """Stored features that stand in for trunks."""

    def needs(self) -> tuple[Job, ...]:
        return (*(overlay.job for overlay in self.overlays), *self.features)

    def identity(self) -> Any:
        data = self.model.hashed_without_places()
        drawn = [[name, encoder.weights.identity()] for name, encoder in self.model.encoders.items()]
        parts = [[overlay.job.key, list(overlay.parts)] for overlay in self.overlays]
        stored = sorted({job.name for job in self.features})
        return [data, self.model.language.weights_digest(), drawn, self.seed, parts, stored]

    def reads(self) -> dict[str, Contents]:
        """The files of the language model and of the encoders."""
        encoders = {f"encoders.{name}": one.weights.contents() for name, one in self.model.encoders.items()}
        return {"language": self.model.language.contents(), **encoders}

    def lookups(self, store: Store) -> dict[str, Any]:
        """By encoder: stored features over all sources."""
        names = dict.fromkeys(job.name for job in self.features)
        return {n: joined([job.lookup(store) for job in self.features if job.name == n]) for n in names}

    def build(self, store: Store, *, blind: bool = False) -> MLLM:
        """The model with its weights. Trunks with stored features are not built; a blind model's encoders see nothing,
        so that they have neither trunks nor weights."""
        from ommatidia.train.freeze import load_trained

        unseen = self.model.encoders if blind else [job.name for job in self.features]
        model = build_model(self.model, seed=self.seed, without_trunks=frozenset(unseen))
        for overlay in self.overlays:
            state = overlay.state(store)
            if blind:
                state = {name: tensor for name, tensor in state.items() if not name.startswith("encoders.")}
            load_trained(model.parts(), resized(state, overlay.job.weights.model, self.model))
        return model


@dataclass(frozen=True)
class TrainingJob(Computation):
    """One stage on one model."""

    kind: ClassVar[str] = "training"
    version: ClassVar[int] = 3
    together: ClassVar[bool] = True

    weights: Weights
    stage: Stage
    seed: int
    device: str = "cpu"
    threads: int = 2
    tracking: Tracking | None = field(default=None, compare=False)
    """Where curves are kept beside the store; no part of the key."""

    @property
    def label(self) -> str:
        return f"{self.stage.name}: {' + '.join(self.weights.model.encoders) or 'language model'} (seed {self.seed})"

    def identity(self) -> Any:
        stage = self.stage
        teachers = [] if stage.distill is None else [stage.distill.weights_digest()]
        held_out = [] if stage.validation is None else [stage.validation.data.fingerprint()]
        read = [stage.data.fingerprint(), *held_out, *teachers]
        return [self.weights.identity(), stage.hashed_without_places(), read, self.seed, *self.arithmetic()]

    def reads(self) -> dict[str, Contents]:
        stage, found = self.stage, self.weights.reads()
        found |= {f"data/{name}": one.source.contents() for name, one in stage.data.used().items()}
        if stage.validation is not None:
            held_out = stage.validation.data.used()
            found |= {f"validation/{name}": one.source.contents() for name, one in held_out.items()}
        return found if stage.distill is None else found | {"teachers": stage.distill.contents()}

    def needs(self) -> tuple[Job, ...]:
        return self.weights.needs()

    @property
    def number_format(self) -> str:
        return self.stage.precision

    def tracked(self, tracking: Tracking | None) -> Self:
        return self if tracking is None else replace(self, tracking=tracking)

    def reuse(self, store: Store) -> None:
        """Curves of a training that another run has made are drawn from what it kept."""
        if self.tracking is not None and ranks().leads:
            reports = read_metrics(self.folder(store) / FILE)
            write_curves(self._curves(Path()), reports=reports, every=self.stage.log_every)

    def _curves(self, scratch: Path) -> Tracking:
        """Where this training's curves go, by a name that says stage, design and seed."""
        model = self.weights.model
        fusion = str(model.fusion.to_dict()["kind"]) if len(model.encoders) > 1 else ""
        design = " ".join(filter(None, ["+".join(model.encoders) or "language", fusion]))
        name = f"{self.stage.name} {design} seed{self.seed} {self.key[:8]}"
        return (self.tracking or Tracking(scratch / "tracking")).of_run(name, self.stage.engine.log)

    @cached_property
    def steps(self) -> int:
        return self.stage.total_steps(self.stage.data.open().size)

    def price(self) -> Price:
        stored = frozenset(job.name for job in self.weights.features)
        tokens = sample_tokens(self.stage.data, self.weights.model).cut(self.stage.longest)
        return training_price(self.weights.model, self.stage, stored, tokens, self.steps * self.stage.batch)

    def findings(self, *, pixels: bool) -> Iterator[Finding]:
        """Packages, weights, patterns, and the samples that will be drawn."""
        model, stored = self.weights.model, {job.name for job in self.weights.features}
        faults: list[Iterator[OmmatidiaError]] = [language_faults(model.language)]
        seen = model if self.stage.distill is None else self.stage.distill.seeing(model)
        faults += [encoder_faults(name, one) for name, one in seen.encoders.items() if name not in stored]
        faults += [
            stage_faults(self.stage, model, self.device, stored),
            check_stream(self.stage, model, steps=self.steps, seed=self.seed),
        ]
        return (Finding.of(fault) for some in faults for fault in some)

    def scratch_bytes(self) -> int:
        """Checkpoints on the way: weights and both moments of the optimiser."""
        engine = self.stage.engine
        return 3 * self._trained_bytes() * (engine.keep_last + engine.keep_best + 1)

    def _trained_bytes(self) -> int:
        if self.stage.distill is not None:
            return 4 * self.stage.distill.cost(self.weights.model)[0].parameters
        stored = {job.name for job in self.weights.features}
        return 4 * trained_parameters(self.stage, self.weights.model, self.device, stored)

    def kept_bytes(self) -> int:
        return self._trained_bytes()

    def _distiller(
        self, distill: Distillation, model: MLLM, mixture: Mixture, device: torch.device
    ) -> tuple[Distiller, Processor]:
        """Student and teachers as what is trained, with the teachers' features measured on the stage's own data."""
        processor = Processor(distill.seeing(self.weights.model))
        distiller = distill.build(model, self.weights.model, seed=self.seed).to(device)
        size = self.stage.micro_batch or self.stage.batch
        batches = iter(Loader(mixture, processor, batch=size, seed=self.seed))
        first = islice(batches, max(1, distill.statistics // size))
        distiller.measure(processor.collate(examples).to(device) for examples in first)
        return distiller, processor

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        """All ranks of the run do it together; rank 0 alone writes the result."""
        from ommatidia.train.trainer import Trainer

        group = ranks()
        built = self.weights.build(store)
        model: Trainable = built
        processor = Processor(self.weights.model, features=self.weights.lookups(store), longest=self.stage.longest)
        mixture = self.stage.data.open()
        if self.stage.distill is not None:
            model, processor = self._distiller(self.stage.distill, built, mixture, group.device(self.device))
        loaders: list[Loader] = []

        def batches(start: int) -> Iterator[list[Example]]:
            loaders.append(self._loader(mixture, processor, group, start=start))
            return iter(loaders[-1])

        trainer = Trainer(
            model,
            self.stage,
            batches,
            processor.collate if self.stage.engine.packing is None else processor.pack,
            steps=self.steps,
            folder=scratch,
            device=self.device,
            seed=self.seed,
            key=self.key,
            ranks=group,
            blank=processor.blank,
            held_out=self._held_out(processor, group),
            flops=self.price().flops / self.steps,
            tracking=self._curves(scratch),
        )
        report = trainer.fit()
        trained = {n: t for n, t in trainer.result().items() if n.partition(":")[0] in built.parts()}
        refused = list(dict.fromkeys(line for loader in loaders for line in loader.refused))
        if not group.leads:
            return {}
        save_tensors(trained, out / "trained.safetensors")
        shutil.copyfile(report.metrics, out / FILE)
        if refused:
            console().warn(f"{self.label}: {len(refused)} unusable records, replaced by others; {refused[0]}")
        return {
            "steps": self.steps,
            "final_loss": report.loss,
            "tokens": report.tokens,
            "trained_parameters": sum(tensor.numel() for tensor in trained.values()),
            "refused": refused,
        }

    def _loader(self, mixture: Mixture, processor: Processor, group: Ranks, *, start: int = 0) -> Loader:
        """This rank's share of a stream of samples in batches of the stage."""

        def process(sample: Sample) -> Example:
            return processor(sample)

        return Loader(
            mixture,
            process,
            batch=self.stage.batch,
            seed=self.seed,
            start=start,
            workers=self.stage.engine.workers,
            share=Share(group.rank, group.world, group.gather),
        )

    def _held_out(self, processor: Processor, group: Ranks) -> HeldOut | None:
        """The validation samples, always the same ones; the last batch may be a partial one."""
        validation = self.stage.validation
        if validation is None:
            return None
        mixture, batch = validation.data.open(), self.stage.batch

        def held_out() -> Iterator[list[Example]]:
            loader = iter(self._loader(mixture, processor, group))
            for first in range(0, validation.samples, batch):
                mine = len(group.share(min(batch, validation.samples - first)))
                yield next(loader)[:mine]

        return held_out
