"""Engine: how a stage is computed, never what. Nothing here changes a result beyond rounding, so none of it is hashed.

Parts are named by globs over their stable names ("encoders.*", "language"), as in ``Stage.train`` before the colon.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError

Parallel = Literal["ddp", "fsdp", "hsdp"]
Recompute = Literal["none", "selective", "full"]
Destination = Literal["tensorboard", "wandb"]


class Packing(Config):
    """Samples one behind another in a row, each seeing only itself: a micro-batch is one row and holds no padding.

    ``micro_batch`` is then not used. A sample longer than ``tokens`` gets a row of its own.
    """

    tokens: Annotated[int, Field(ge=1)]
    """Positions a row may hold."""
    views: Annotated[int, Field(ge=1)] | None = None
    """Views that the encoders may see for one row; None: as many as its samples bring."""


class Engine(Config):
    """How one stage uses the machine: ranks, memory, kernels, workers, and what is kept on the way."""

    parallel: Parallel = "ddp"
    """With several processes: whole copies (ddp), every part and block in shards over all ranks (fsdp), or in shards
    inside each of ``replicas`` groups (hsdp). One process needs none of them."""
    replicas: Annotated[int, Field(ge=1)] | None = None
    """Groups of hsdp that each hold the whole model; None: one for each node."""
    packing: Packing | None = None
    recompute: dict[str, Recompute] = Field(default_factory=dict)
    """Part -> what of its blocks' activations is computed again on the way back: nothing, all but the outputs of matrix
    products and attention (selective), or everything (full)."""
    compile: tuple[str, ...] = ()
    """Parts whose blocks go through torch.compile."""
    channels_last: tuple[str, ...] = ()
    """Parts whose convolutions keep channels innermost in memory."""
    chunk: Annotated[int, Field(ge=1)] | None = None
    """Supervised positions whose logits exist at a time; None: those of a whole micro-batch."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Threads of each rank that prepare samples ahead."""
    keep_last: Annotated[int, Field(ge=1)] = 1
    """Checkpoints kept on the way, newest first."""
    keep_best: bool = False
    """Whether the checkpoint with the lowest loss (of ``Stage.validation``, else of training) is kept beside them."""
    async_save: bool = True
    """Whether a checkpoint is written while training goes on; it always appears whole or not at all."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that ranks wait for one another before the job ends and names who is missing."""
    log: tuple[Destination, ...] = ()
    """Where curves go beside ``metrics.jsonl``, besides what ``--track`` names for a whole run."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.replicas is not None and self.parallel != "hsdp":
            raise ConfigError(f"replicas: only hsdp has groups of ranks, parallel is {self.parallel!r}")
        return self
