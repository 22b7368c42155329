"""Plan: what must be done for some recipes, merged by key, needs first, priced before it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.files import settled
from ommatidia.core.source import SourceConfig
from ommatidia.eval.benchmark import BenchmarkConfig, SourceBenchmark
from ommatidia.lab.nodes.checkpoint import CheckpointJob
from ommatidia.lab.nodes.features import FeatureJob, picture_count
from ommatidia.lab.nodes.gallery import GalleryJob
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.prediction import PredictionJob
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import Overlay, TrainingJob, Weights
from ommatidia.lab.price.cost import sample_tokens, trains
from ommatidia.lab.price.price import Price
from ommatidia.lab.recipe import Mode, Recipe
from ommatidia.models.config import MLLMConfig
from ommatidia.models.resizing import misfit
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.train.pattern import Pattern
from ommatidia.train.stage import Stage


@dataclass(frozen=True)
class TrialPlan:
    """The jobs of one recipe."""

    recipe: Recipe
    training: tuple[TrainingJob, ...]
    """In order of their stages; an expert stage has one job an encoder."""
    predictions: dict[tuple[str, Mode], PredictionJob]
    galleries: tuple[GalleryJob, ...]
    checkpoint: CheckpointJob

    def jobs(self) -> list[Job]:
        """Everything this recipe needs, needs first, the checkpoint left out."""
        ordered: dict[str, Job] = {}
        for job in (*self.training, *self.predictions.values(), *self.galleries):
            _collect(job, ordered)
        return list(ordered.values())


def _collect(job: Job, into: dict[str, Job]) -> None:
    if job.key in into:
        return
    for need in job.needs():
        _collect(need, into)
    into[job.key] = job


@dataclass
class Plan:
    """Jobs by key, needs first, and the trials that asked for them."""

    trials: list[TrialPlan] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)

    @classmethod
    def of(cls, recipes: Iterable[Recipe]) -> Plan:
        """Raises ConfigError when a recipe's parts do not fit."""
        plan = cls()
        with settled():
            for recipe in recipes:
                trial = plan_trial(recipe)
                plan.trials.append(trial)
                for job in trial.jobs():
                    plan.jobs.setdefault(job.key, job)
        return plan

    def add(self, job: Job) -> None:
        """One more job, behind what it needs."""
        _collect(job, self.jobs)

    def price(self) -> Price:
        """Of doing every job once."""
        with settled():
            return sum((job.price() for job in self.jobs.values()), Price())

    def unshared_price(self) -> Price:
        """Of every trial working alone: each stage again, each image encoded each time it is read."""
        with settled():
            alone = [plan_trial(trial.recipe.model_copy(update={"features": "never"})) for trial in self.trials]
            return sum((job.price() for trial in alone for job in trial.jobs()), Price())


def plan_trial(recipe: Recipe) -> TrialPlan:
    """The jobs of one recipe, stage after stage, each building on what earlier ones changed."""
    with settled():
        return _plan_trial(recipe)


def _plan_trial(recipe: Recipe) -> TrialPlan:
    model = recipe.model
    jobs: list[TrainingJob] = []
    spoken: list[Overlay] = []  # what language stages changed
    seen: dict[str, list[Overlay]] = {name: [] for name in model.encoders}  # what expert stages changed, by expert
    mixed: list[Overlay] = []
    stored = storable(recipe)

    def train(stage: Stage, config: MLLMConfig, overlays: list[Overlay]) -> TrainingJob:
        check_patterns(stage, config)
        seed = stage.seed_or(recipe.seed)
        sources = [weighted.source for weighted in stage.data.used().values()]
        features = () if stage.distill else feature_jobs(recipe, config, sources, stored)
        weights = Weights(config, seed, tuple(overlays), features)
        job = TrainingJob(weights, stage, seed, recipe.device, recipe.threads)
        jobs.append(job)
        return job

    for stage in recipe.stages:
        read = stage.model_for_stage(model)
        _check_sizes(recipe, stage, read)
        if stage.scope == "language":
            spoken.append(Overlay(train(stage, blind(read), spoken), ("language",)))
        elif stage.scope == "expert":
            for name in model.encoders:
                parts = (f"encoders.{name}", "projector", "fusion", "injection", "language")
                job = train(stage, alone(read, name), spoken + seen[name])
                seen[name].append(Overlay(job, parts))
        else:
            experts = [Overlay(o.job, (f"encoders.{name}",)) for name, chain in seen.items() for o in chain]
            job = train(stage, read, spoken + experts + mixed)
            mixed.append(Overlay(job, tuple(part_names(model))))
    experts = [Overlay(o.job, (f"encoders.{name}",)) for name, chain in seen.items() for o in chain]
    final = tuple(spoken + experts + mixed)
    predictions: dict[tuple[str, Mode], PredictionJob] = {}
    for benchmark in recipe.benchmarks:
        for mode in recipe.modes if model.encoders else ("full",):
            seen_through = feature_jobs(recipe, model, _whole_source(benchmark), stored) if mode == "full" else ()
            weights = Weights(model, recipe.seed, final, seen_through)
            predictions[benchmark.name, mode] = PredictionJob(
                weights, benchmark, mode, recipe.eval_batch, recipe.device, recipe.threads
            )
    checkpoint = CheckpointJob(Weights(model, recipe.seed, final), recipe.label())
    galleries = tuple(GalleryJob(benchmark) for benchmark in recipe.benchmarks)
    return TrialPlan(recipe, tuple(jobs), predictions, galleries, checkpoint)


def _whole_source(benchmark: BenchmarkConfig) -> list[SourceConfig]:
    """The source whose images a benchmark shows, when it shows all of them; of a few, storing features is no gain."""
    if isinstance(benchmark, SourceBenchmark) and benchmark.limit is None:
        return [benchmark.source]
    return []


def check_patterns(stage: Stage, model: MLLMConfig) -> None:
    """Raises ConfigError for a pattern that names no part of the model; what is inside one shows when it is built."""
    parts = part_names(model) if model.encoders else ["language"]
    if stage.distill is not None:
        stage.distill.seeing(model)
        parts = list(stage.distill.trainable())
    for text in stage.train:
        if not any(Pattern.parse(text).matches_part(part) for part in parts):
            wrong = unknown("part", text.partition(":")[0], parts)
            raise ConfigError(f"stage {stage.name!r}: train pattern {text!r}: {wrong}")


def _check_sizes(recipe: Recipe, stage: Stage, read: MLLMConfig) -> None:
    """Raises ConfigError where a trunk that trains has weights which cannot pass between the stage and the model."""
    for name in stage.encoders or {}:
        wrong = None if stays_frozen(recipe, name) else misfit(read, recipe.model, f"encoders.{name}")
        if wrong is not None:
            sizes = ("x".join(map(str, one.encoders[name].preprocess().size)) for one in (read, recipe.model))
            raise ConfigError(
                f"stage {stage.name!r}: encoders.{name}: between {' and '.join(sizes)} px {wrong} changes its shape, "
                "and it is no table of positions that could be resampled; keep the encoder frozen, or its size"
            )


def part_names(model: MLLMConfig) -> list[str]:
    """Every part a built model may have."""
    return [*(f"encoders.{name}" for name in model.encoders), "fusion", "projector", "injection", "language"]


def blind(model: MLLMConfig) -> MLLMConfig:
    """The model without its eyes, in which a language stage trains."""
    return model.model_copy(update={"encoders": {}})


def alone(model: MLLMConfig, name: str) -> MLLMConfig:
    """The model an expert is pre-aligned in: itself, its own projector, the same language model (Eagle, section 3.4).

    No fusion, only its way to the common grid: so one pre-aligned expert serves every fusion.
    """
    parts = {"encoders": {name: model.encoders[name]}, "fusion": model.fusion.single(name)}
    return model.model_copy(update={**parts, "tiling": model.tiling.only((name,))})


@dataclass(frozen=True, slots=True)
class _Speed:
    """What the caching rule knows of a kind of device: arithmetic, reading stored features, decoding an image."""

    flops: float
    bytes: float
    decode_seconds: float


_SPEEDS = {"cpu": _Speed(1e11, 1e9, 2e-3), "cuda": _Speed(3e14, 3e9, 1e-4)}


def storable(recipe: Recipe) -> frozenset[str]:
    """Encoders whose trunks stay frozen in every stage, see the image alone, and are cheaper to load than to run."""
    if recipe.features == "never":
        return frozenset()
    reads = reads_per_picture(recipe)
    steered = recipe.model.fusion.steered(tuple(recipe.model.encoders))
    return frozenset(
        name
        for name, encoder in recipe.model.encoders.items()
        if name not in steered and stays_frozen(recipe, name) and pays(recipe, encoder, reads)
    )


def feature_jobs(
    recipe: Recipe, model: MLLMConfig, sources: list[SourceConfig], stored: frozenset[str]
) -> tuple[FeatureJob, ...]:
    """Feature jobs of the model's ``stored`` encoders, for each source that has images."""
    return tuple(
        FeatureJob(name, encoder, source, recipe.feature_precision, recipe.device, model.tiling, recipe.threads)
        for name, encoder in model.encoders.items()
        if name in stored
        for source in sources
        if picture_count(source)
    )


def stays_frozen(recipe: Recipe, name: str) -> bool:
    """Whether no stage trains the encoder's trunk."""
    return not any(trains(stage, f"encoders.{name}", below="trunk") for stage in recipe.stages)


def pays(recipe: Recipe, encoder: EncoderConfig, reads: float) -> bool:
    """The caching rule: loading beats decoding and running again, and images are read more than once in this recipe.

    It looks at the recipe and this encoder alone, so that a design's keys never depend on what else is planned.
    """
    speed = _SPEEDS[recipe.device.partition(":")[0]]
    again = encoder.trunk_cost().flops / speed.flops + speed.decode_seconds
    load = 2 * encoder.trunk_grid().values / speed.bytes
    return load < again and reads > 1.5


def reads_per_picture(recipe: Recipe) -> float:
    """How often the recipe's stages read each image, on average.

    Raises DataError for a record that cannot be used, where a stage tolerates none: before anything is trained.
    """
    read = pictures = 0.0
    for stage in recipe.stages:
        if stage.scope == "language":
            continue
        records = 0 if stage.steps is not None else stage.data.open().size
        read += stage.total_steps(records) * stage.batch * sample_tokens(stage.data, recipe.model).pictures
        tolerant = stage.data.tolerance > 0
        pictures = max(pictures, sum(picture_count(w.source, tolerant=tolerant) for w in stage.data.used().values()))
    return read / pictures if pictures else 0.0


def seconds_per_flop(store: Store, kind: str) -> float:
    """What this store's finished jobs of a kind took per planned FLOP; before there are any, a careful guess."""
    rates = [
        record["seconds"] / record["flops"]
        for record in store.records(kind)
        if record.get("flops") and record.get("seconds")
    ]
    return median(rates) if rates else 1 / 2.5e10
