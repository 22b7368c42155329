"""Stage: one training stage as a value: what trains at which rate, on which data, for how long."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.data.mixture import MixtureConfig
from ommatidia.models.config import MLLMConfig
from ommatidia.models.language import ChatFormat
from ommatidia.models.language.apart import ROWS, unsteered
from ommatidia.models.resizing import misfit
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.models.vision.tiling import TilingConfig
from ommatidia.train.distill import Distillation
from ommatidia.train.engine import Engine
from ommatidia.train.pattern import Pattern

Scope = Literal["language", "expert", "mixture"]
Shape = Literal["cosine", "linear", "constant"]
Precision = Literal["fp32", "bf16", "bf16_pure"]
Optimizer = Literal["adamw", "adamw_8bit", "adafactor"]
StageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
Rate = Annotated[float, Field(gt=0, le=10)]
Beta = Annotated[float, Field(ge=0, lt=1)]
_READING = ("chat", "tiling", "encoders")
"""Fields by which a stage reads otherwise than its model."""


class Validation(Config):
    """A held-out mixture whose loss is measured on the way, by the weights that would be saved there."""

    data: MixtureConfig
    samples: Annotated[int, Field(ge=1)] = 256
    every: Annotated[int, Field(ge=1)] = 200
    """Optimiser steps between measurements; the last step is always measured."""


class Stage(Config):
    """One training stage. What ``train`` names has a learning rate and trains; everything else is frozen.

    ``micro_batch`` splits the optimiser batch to fit memory; gradients are sums over tokens divided by the supervised
    tokens of the whole batch, so it does not change the result beyond rounding and is no part of the stage's identity.
    (Where dropout is on, or a batch norm outside of a trunk trains, it does: the trainer says so of batch norms.)
    """

    unhashed: ClassVar[frozenset[str]] = frozenset({"micro_batch", "log_every", "save_every", "validation", "engine"})

    name: StageName
    scope: Scope = "mixture"
    """Who shares the result: every design (language), every design with this expert (expert), this design (mixture)."""
    train: dict[str, Rate]
    """Pattern -> peak learning rate; see ``ommatidia.train.pattern``."""
    data: MixtureConfig
    distill: Distillation | None = None
    """Instead of next words: a mixture of teachers into one encoder. The heads train under the pattern
    ``distillation``."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps; give either this or ``epochs``."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Passes over the mixture's epoch: every record of all sources once, unless the mixture says otherwise."""
    batch: Annotated[int, Field(ge=1)]
    """Samples in one optimiser step, over all ranks and micro-batches."""
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """Samples in one forward pass; None: the whole batch."""
    schedule: Shape = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Fraction of the steps in which the learning rate rises linearly to its peak."""
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the peak learning rate that cosine and linear schedules fall to."""
    optimizer: Optimizer = "adamw"
    """adamw_8bit keeps both moments in blocks of 8-bit numbers, adafactor factors the second one and keeps no first."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-8
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest global gradient norm; None: no clipping."""
    precision: Precision = "fp32"
    """bf16: products in bfloat16, trained weights and their gradients in float32; bf16_pure: trained weights, gradients
    and moments in bfloat16 as well."""
    frozen_precision: Literal["fp32", "bf16"] = "fp32"
    """What frozen weights are held in."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the trained weights, which is then the stage's result."""
    longest: Annotated[int, Field(ge=2)] | None = None
    """Tokens after which the text of a sample is cut off; None: a sample longer than the context is refused. Visual
    tokens are never cut: a sample in which they would be is refused."""
    chat: ChatFormat | None = None
    """The form in which this stage writes its samples; None: the model's own. LLaVA's first stage: ``plain``."""
    tiling: TilingConfig | None = None
    """How this stage cuts images; None: as the model does (NVLM pre-trains on one tile)."""
    encoders: dict[str, EncoderConfig] | None = None
    """Encoders of the model at the image sizes of this stage; None: at the model's (LLaVA-HR starts small). Where
    positions are weights of the trunk, they are resampled to the next stage's grid."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """None: the recipe's seed."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between points sent to TensorBoard or W&B; ``metrics.jsonl`` always has every step."""
    save_every: Annotated[int, Field(ge=1)] | None = 200
    """Steps between checkpoints; None: only at the end and when a signal stops the run."""
    validation: Validation | None = None
    """Measured on the way; it changes nothing but which checkpoint is the best."""
    engine: Engine = Engine()

    @field_validator("train")
    @classmethod
    def _check_train(cls, train: dict[str, float]) -> dict[str, float]:
        if not train:
            raise ConfigError('nothing would train: name at least one part, for example {"projector": 1e-3}')
        for text in train:
            Pattern.parse(text)
        return train

    @model_validator(mode="after")
    def _check_distill(self) -> Self:
        if self.distill is not None and self.scope != "mixture":
            raise ConfigError(f"stage {self.name!r}: distilling has the scope 'mixture', got {self.scope!r}")
        return self

    @model_validator(mode="after")
    def _check_precision(self) -> Self:
        if self.frozen_precision == "bf16" and self.precision == "fp32":
            raise ConfigError(
                f"stage {self.name!r}: frozen_precision 'bf16' needs a precision of 'bf16' or 'bf16_pure', got 'fp32'"
            )
        return self

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            given = "both" if self.steps is not None else "neither"
            raise ConfigError(f"stage {self.name!r}: give exactly one of steps and epochs, got {given}")
        if self.micro_batch is not None and self.batch % self.micro_batch:
            raise ConfigError(
                f"stage {self.name!r}: micro_batch {self.micro_batch} does not divide batch {self.batch}; "
                f"nearest that does: {_nearest_divisor(self.batch, self.micro_batch)}"
            )
        return self

    def hashed(self) -> Any:
        """A stage that reads as its model does has the key that it had before a stage could read otherwise."""
        unset = {name for name in _READING if getattr(self, name) is None}
        return {name: value for name, value in super().hashed().items() if name not in unset}

    def model_for_stage(self, model: MLLMConfig) -> MLLMConfig:
        """The model as it reads in this stage: the same parts, by this stage's chat format, tiling and image sizes.

        Raises ConfigError where packing does not suit the decoder, or where the tiling or a size does not fit the
        model, or would need other weights.
        """
        self._check_packing(model)
        own = {name: value for name in _READING if (value := getattr(self, name)) is not None}
        if not own:
            return model
        own["encoders"] = model.encoders | self._seeing(model)
        try:
            read = MLLMConfig(**{**{name: getattr(model, name) for name in MLLMConfig.model_fields}, **own})
        except ConfigError as error:
            raise ConfigError(f"stage {self.name!r}: {error}") from None
        for name, grid in model.grids().items():
            if name not in (self.encoders or ()) and (seen := read.grids()[name]) != grid:
                raise ConfigError(
                    f"stage {self.name!r}: by its tiling a view brings {seen} of encoder {name!r}, but {grid} in the "
                    "model; say by encoders at which size it is to see here"
                )
        for part in ("fusion", "projector", "injection") if self.encoders else ():
            if (wrong := misfit(read, model, part)) is not None:
                raise ConfigError(
                    f"stage {self.name!r}: as it reads, {wrong} has another shape than in the model; a stage may see "
                    "otherwise, not through other weights"
                )
        return read

    def _check_packing(self, model: MLLMConfig) -> None:
        """Raises ConfigError where the decoder runs packs sample by sample and the injection has layers inside it."""
        if self.engine.packing is None or not (model.encoders and model.injection.steers):
            return
        family = model.language.family()
        if family is not None and family not in ROWS:
            raise ConfigError(f"stage {self.name!r}: {unsteered(family)}")

    def _seeing(self, model: MLLMConfig) -> dict[str, EncoderConfig]:
        """This stage's own encoders. Raises ConfigError for one that is not the model's at another size."""
        for name, encoder in (self.encoders or {}).items():
            if name not in model.encoders:
                wrong = unknown("encoder", name, model.encoders)
                raise ConfigError(f"stage {self.name!r}: encoders: {wrong}")
            if others := encoder.differs(model.encoders[name]):
                raise ConfigError(
                    f"stage {self.name!r}: encoders.{name}: not the model's own, by its {', '.join(others)}; only the "
                    "size of the image and how it is prepared may be another"
                )
        return self.encoders or {}

    def total_steps(self, size: int) -> int:
        """Optimiser steps of this stage over ``size`` records; a last partial batch counts as a step.

        Raises ConfigError when the length is given in epochs and there are no records.
        """
        if self.steps is not None:
            return self.steps
        if size < 1 or self.epochs is None:
            raise ConfigError(f"stage {self.name!r}: {self.epochs} epochs of a data set with {size} records")
        return max(1, math.ceil(self.epochs * size / self.batch - 1e-9))  # 0.1 * 30 / 3 is 1 step, not 2

    def seed_or(self, default: int) -> int:
        """This stage's own seed, or the recipe's."""
        return default if self.seed is None else self.seed


def _nearest_divisor(number: int, wanted: int) -> int:
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: (abs(d - wanted), d))
