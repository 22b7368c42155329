"""Distillation: a mixture of frozen teachers into one student encoder, so that a found mixture can be compressed.

Losses and heads follow AM-RADIO (Ranzinger et al., arXiv 2312.06709, section 3.3), teacher normalisation PHI-S (arXiv
2410.01680, section 3). Encoders here keep no class token, so an image's summary is the mean over its grid.
Shapes: K views, H rows, W columns, S student channels, D teacher channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.config import Config, digest
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.files import looked
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import Batch, Example
from ommatidia.models.config import MLLMConfig
from ommatidia.models.fusion import SequenceAppend
from ommatidia.models.model import MLLM
from ommatidia.models.pretrained import load, read_config
from ommatidia.models.vision.encoder import EncoderConfig, VisionEncoder
from ommatidia.train.frozen import Frozen
from ommatidia.train.hadamard import hadamard

PART = "distillation"
"""The name of the heads as a part: they train beside the student and stay out of the model."""

Weight = Annotated[float, Field(ge=0)]


class Distillation(Config):
    """Who learns from whom, and by which losses."""

    student: str
    """An encoder of the model."""
    located: ClassVar[frozenset[str]] = frozenset({"teacher_model"})
    teachers: dict[str, EncoderConfig] = Field(default_factory=dict)
    """Frozen encoders by name; give either these or ``teacher_model``."""
    teacher_model: Path | None = None
    """A saved Ommatidia folder: its encoders, with their trained weights, are the teachers."""
    features: dict[str, Weight] = Field(default_factory=dict)
    """Weight of each teacher's feature loss; 1 where none is given."""
    summaries: dict[str, Weight] = Field(default_factory=dict)
    """Weight of each teacher's summary loss; 1 where none is given. AM-RADIO gives SAM 0."""
    cosine: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of 1 - cosine in the feature loss; the rest is smooth L1, which keeps the magnitude."""
    normalise: Literal["none", "standardise", "phi_s"] = "phi_s"
    """What is done to teachers' features first: their sizes differ by orders of magnitude."""
    statistics: Annotated[int, Field(ge=2)] = 256
    """Samples of the stage's own data that the normalisation is estimated on, before the first step."""

    @model_validator(mode="after")
    def _check(self) -> Distillation:
        if bool(self.teachers) == (self.teacher_model is not None):
            raise ConfigError("distill: give exactly one of teachers and teacher_model")
        known = self.teacher_configs()
        for field in ("features", "summaries"):
            for name in getattr(self, field):
                if name not in known:
                    raise ConfigError(f"distill.{field}: {unknown('teacher', name, known)}")
        if self.student in known:
            raise ConfigError(f"distill.student: {self.student!r} is the name of a teacher too; rename one of them")
        return self

    def trainable(self) -> tuple[str, str]:
        """The parts that may train."""
        return f"encoders.{self.student}", PART

    def teacher_configs(self) -> dict[str, EncoderConfig]:
        """The teachers' values by name."""
        return self.teachers if self.teacher_model is None else dict(read_config(self.teacher_model).encoders)

    def seeing(self, model: MLLMConfig) -> MLLMConfig:
        """A model with the student and all teachers as encoders, for whom the processor prepares images.

        How it would join them does not matter: nothing is joined, each is asked by itself.
        Raises ConfigError when the student is no encoder of ``model``.
        """
        if self.student not in model.encoders:
            raise ConfigError(f"distill.student: {unknown('encoder', self.student, model.encoders)}")
        encoders = {self.student: model.encoders[self.student], **self.teacher_configs()}
        fusion = SequenceAppend(grid=(1, 1), dim=8)
        return MLLMConfig(
            encoders=encoders, fusion=fusion, projector="linear", language=model.language, chat=model.chat
        )

    def cost(self, model: MLLMConfig) -> tuple[Cost, Cost]:
        """Of one view: student and heads, which train; and the teachers, which do not."""
        student, configs = model.encoders[self.student], self.teacher_configs()
        heads = _heads(student.grid(), {name: config.grid() for name, config in configs.items()}, meta=True)
        learned = sum(p.numel() for p in heads.parameters())
        flops = 2.0 * sum(m.weight.numel() for m in heads.modules() if isinstance(m, nn.Linear))
        trained = student.cost() + Cost(learned, flops * student.grid().tokens)
        return trained, sum((config.cost() for config in configs.values()), Cost())

    def build(self, model: MLLM, config: MLLMConfig, *, seed: int) -> Distiller:
        """The trainable whole; the heads are drawn from ``seed``."""
        self.seeing(config)
        if self.teacher_model is None:
            teachers: dict[str, nn.Module] = {name: c.build() for name, c in self.teachers.items()}
        else:
            teachers = dict(load(self.teacher_model)[0].encoders.items())
        grids = {name: c.grid() for name, c in self.teacher_configs().items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads = _heads(config.encoders[self.student].grid(), grids)
        scaled = {name: Teacher(teacher, grids[name].dim) for name, teacher in teachers.items()}
        return Distiller(self, cast(VisionEncoder, model.encoders[self.student]), scaled, heads)

    def weights_digest(self) -> str:
        """Identity of the teachers, their weights included."""
        trunks = [[name, config.trunk_digest()] for name, config in self.teachers.items()]
        return digest([trunks, self.hashed_without_places(), self.contents().digest])

    def contents(self) -> Contents:
        """The files that the teachers are read from, by content."""
        return looked(["teachers", self.to_json()], self.reads)

    def reads(self) -> Contents:
        """``contents``, looked at now."""
        folder = self.teacher_model
        if folder is None:
            return Contents.joined(config.weights.contents() for config in self.teachers.values())
        names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        kept = [name for name in names if name.name != "README.md" and not any(p.startswith(".") for p in name.parts)]
        return Contents.of_files({name.as_posix(): folder / name for name in kept})


class Teacher(nn.Module):
    """A frozen encoder and the normalisation of its features."""

    def __init__(self, encoder: nn.Module, dim: int) -> None:
        super().__init__()
        self.encoder, self.scale = encoder, Standard(dim)

    def forward(self, pixels_KCHW: Tensor) -> Tensor:
        return self.scale(self.encoder(pixels_KCHW).float())


class Heads(nn.Module):
    """For one teacher: a two-layer head for features and one for the summary, LayerNorm and GELU between."""

    def __init__(self, student: int, hidden: int, teacher: int) -> None:
        super().__init__()

        def head() -> nn.Module:
            norm = nn.LayerNorm(hidden)
            return nn.Sequential(nn.Linear(student, hidden), norm, nn.GELU(), nn.Linear(hidden, teacher))

        self.features, self.summary = head(), head()


def _heads(student: Grid, teachers: Mapping[str, Grid], *, meta: bool = False) -> nn.ModuleDict:
    hidden = max(grid.dim for grid in teachers.values())
    with torch.device("meta" if meta else "cpu"):
        return nn.ModuleDict({name: Heads(student.dim, hidden, grid.dim) for name, grid in teachers.items()})


class Distiller(nn.Module):
    """Student, frozen teachers and heads as one trainable thing; a view is one target."""

    def __init__(
        self, config: Distillation, student: VisionEncoder, teachers: Mapping[str, Teacher], heads: nn.ModuleDict
    ) -> None:
        super().__init__()
        self.config, self.student, self.heads = config, student, heads
        self.teachers = Frozen(teachers).requires_grad_(False).eval()

    def parts(self) -> dict[str, nn.Module]:
        """The student under its name in the model, the heads, and the teachers, which no pattern reaches."""
        return {f"encoders.{self.config.student}": self.student, PART: self.heads, "teachers": self.teachers}

    @staticmethod
    def targets(example: Example) -> int:
        """Views of the example: each counts once."""
        return len(example.views)

    @torch.no_grad()
    def measure(self, batches: Iterable[Batch]) -> None:
        """Estimate the teachers' normalisation; a function of the batches alone."""
        if self.config.normalise == "none":
            return
        moments = {name: Moments() for name in self.teachers}
        for batch in batches:
            if batch.views is None:
                continue
            for name, teacher in self.teachers.items():
                moments[name].add(cast(Teacher, teacher).encoder(batch.pixels[name]).flatten(0, 2))
        for name, moment in moments.items():
            cast(Teacher, self.teachers[name]).scale.fit(moment, rotate=self.config.normalise == "phi_s")

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Sum over views of all teachers' feature and summary losses, and the number of views."""
        if batch.views is None:
            return torch.zeros(()), 0
        x_KHWS = self.student(batch.pixels[self.config.student])
        total = x_KHWS.new_zeros((), dtype=torch.float32)
        for name, teacher in self.teachers.items():
            with torch.no_grad():
                y_KHWD = teacher(batch.pixels[name])
            heads = cast(Heads, self.heads[name])
            feature, summary = (self.config.__dict__[field].get(name, 1.0) for field in ("features", "summaries"))
            if feature:
                total = total + feature * self._feature_loss(heads.features(x_KHWS).float(), y_KHWD)
            if summary:
                z_KD = heads.summary(x_KHWS.mean((1, 2))).float()
                total = total + summary * (1 - functional.cosine_similarity(z_KD, y_KHWD.mean((1, 2)), -1)).sum()
        return total, len(x_KHWS)

    def _feature_loss(self, z_KHWD: Tensor, y_KHWD: Tensor) -> Tensor:
        """Grids that differ meet on the larger one (AM-RADIO, section 3.3)."""
        height, width = (max(sides) for sides in zip(z_KHWD.shape[1:3], y_KHWD.shape[1:3], strict=True))
        z_KHWD, y_KHWD = _resized(z_KHWD, height, width), _resized(y_KHWD, height, width)
        cosine = (1 - functional.cosine_similarity(z_KHWD, y_KHWD, -1)).mean((1, 2)).sum()
        smooth = functional.smooth_l1_loss(z_KHWD, y_KHWD, reduction="none").mean((1, 2, 3)).sum()
        return self.config.cosine * cosine + (1 - self.config.cosine) * smooth


def _resized(x_KHWD: Tensor, height: int, width: int) -> Tensor:
    if x_KHWD.shape[1:3] == (height, width):
        return x_KHWD
    x_KDHW = functional.interpolate(x_KHWD.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False)
    return x_KDHW.permute(0, 2, 3, 1)


class Moments:
    """Count, mean and covariance of a stream of vectors, summed in float64."""

    def __init__(self) -> None:
        self.count, self._sum, self._outer = 0, cast(Any, 0), cast(Any, 0)

    def add(self, x_ND: Tensor) -> None:
        x_ND = x_ND.double().cpu()
        self.count += len(x_ND)
        self._sum = self._sum + x_ND.sum(0)
        self._outer = self._outer + x_ND.T @ x_ND

    def mean(self) -> Tensor:
        return self._sum / self.count

    def covariance(self) -> Tensor:
        mean_D = self.mean()
        return self._outer / self.count - torch.outer(mean_D, mean_D)


class Standard(nn.Module):
    """y' = M (y - mean): the identity until fitted, then one common scale, with PHI-S's rotation before it if wanted.

    PHI-S: principal axes, then a normalised Hadamard matrix spreads the variance evenly over all channels, then a
    single scale makes it 1. Nothing is whitened, so noise is not blown up.
    """

    mean_D: Tensor
    map_DD: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(dim), persistent=False)
        self.register_buffer("map_DD", torch.eye(dim), persistent=False)

    def fit(self, moments: Moments, *, rotate: bool) -> None:
        """Raises ConfigError when the features never change, or PHI-S has no Hadamard matrix of this size."""
        covariance_DD = moments.covariance()
        variance = covariance_DD.diagonal().mean()
        if not variance > 0:
            raise ConfigError("distill: a teacher's features do not vary over the images of this stage")
        map_DD = torch.eye(len(covariance_DD), dtype=torch.float64)
        if rotate:
            axes_DD = torch.linalg.eigh(covariance_DD).eigenvectors
            map_DD = hadamard(len(covariance_DD)) @ axes_DD.T
        self.mean_D.copy_(moments.mean())
        self.map_DD.copy_(map_DD / variance.sqrt())

    def forward(self, y_KHWD: Tensor) -> Tensor:
        return (y_KHWD - self.mean_D) @ self.map_DD.T
