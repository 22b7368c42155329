"""The fusion contract: grids of named encoders in, one grid out; shapes and costs known before any weight exists.

Shapes: K views, H rows, W columns, D channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.grid import Blocks, Cost, Grid
from ommatidia.core.types import Views
from ommatidia.models.between import BlockEdits
from ommatidia.models.fusion.resample import Auto, ResampleConfig
from ommatidia.models.fusion.sketch import Box, Sketch

Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class FusionContext:
    """What a fusion may need to know of the model around it, beside the grids that it joins."""

    question_width: int | None = None
    """Width of the language model's embeddings, for fusions that read the question."""
    blocks: Mapping[str, Blocks] = field(default_factory=dict)
    """The blocks of the encoders that it steers, by name."""


NO_CONTEXT = FusionContext()


class FusionConfig(Config, family=True):
    """How the grids of several encoders become one. The order of the encoders is the order of the mapping."""

    paper: ClassVar[str] = ""
    """Where it was published, for the generated page of fusions."""

    @abstractmethod
    def out(self, grids: Mapping[str, Grid]) -> Grid:
        """The fused grid. Raises ConfigError that names the encoders and grids which do not fit."""

    @abstractmethod
    def build(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Fusion:
        """A module for encoders of these grids. New weights are drawn from the ambient generator."""

    @abstractmethod
    def cost(self, grids: Mapping[str, Grid], context: FusionContext = NO_CONTEXT) -> Cost:
        """Parameters, and operations for one view."""

    def steered(self, names: Sequence[str]) -> frozenset[str]:
        """Encoders whose features depend on other encoders, so that they can be neither stored nor run alone."""
        return frozenset()

    @property
    def counts_on_padding(self) -> bool:
        """Whether the features are taken for those of images that were centred on a square canvas."""
        return False

    def check(self, context: FusionContext) -> None:
        """Raises ConfigError where this fusion does not go with the model around it."""

    def memory_shape(self, grids: Mapping[str, Grid]) -> Any:
        """Sizes of ``Fused.memory`` for layers inside the decoder; None: it leaves nothing."""
        return None

    def single(self, name: str) -> FusionConfig:
        """What this fusion comes down to for one encoder by itself: the design it is pre-aligned in."""
        return FusionConfig.parse("none")

    def own_tokens(self, grids: Mapping[str, Grid]) -> dict[str, tuple[slice, slice]]:
        """By encoder, the rows and columns of the fused grid that hold it alone; empty where tokens are shared."""
        return {}

    def sketch(self, grids: Mapping[str, Grid]) -> Sketch:
        """What the drawing of this fusion shows for these grids."""
        return Sketch(Box(self.kind_name().replace("_", " ")))

    @classmethod
    def example(cls) -> tuple[FusionConfig, dict[str, Grid]]:
        """What the page of fusions shows: a full-size member and the grids it joins. By default two encoders of Eagle
        at their common grid, or the tiny member where they do not fit."""
        config, grids = cls(), {"clip": Grid(32, 32, 1024), "convnext": Grid(32, 32, 3072)}
        try:
            config.out(grids)
        except ConfigError:
            return cls.tiny(), cls.tiny_grids()
        return config, grids

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()

    @classmethod
    def tiny_grids(cls) -> dict[str, Grid]:
        """Grids that ``tiny()`` can join."""
        return {"left": Grid(4, 4, 6), "right": Grid(4, 4, 10)}


@dataclass(frozen=True, slots=True)
class Fused:
    """What a fusion gives: the fused grid, and what layers inside the decoder may look at again, if anything."""

    y_KHWD: Tensor
    memory: Any = None


class RunEncoder(Protocol):
    """Runs one encoder over the batch by name, with or without changes between its blocks; x_KHWD comes back."""

    def __call__(self, name: str, between: BlockEdits | None = None) -> Tensor: ...


class Fusion(nn.Module, ABC):
    """Base of fusion modules."""

    def encode(self, names: Sequence[str], look: RunEncoder) -> dict[str, Tensor]:
        """Run the encoders. A fusion that steers one encoder by another (``FusionConfig.steered``) does it here."""
        return {name: look(name) for name in names}

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        """Join x_KHWD of every encoder, in whatever order they come; ``views`` is what else is known of them."""


class GridFusionConfig(FusionConfig):
    """Base of fusions that first bring every encoder to one common grid.

    ``grid`` is that grid as (rows, columns); None means that they must agree already. ``resample`` says how, and
    ``resample_for`` overrides it for single encoders.
    """

    grid: tuple[Positive, Positive] | None = None
    resample: ResampleConfig = Auto()
    resample_for: dict[str, ResampleConfig] = Field(default_factory=dict)

    def single(self, name: str) -> FusionConfig:
        """None, on the same grid by the same resampling."""
        resample = self.resampler(name).to_dict()
        grid = list(self.grid) if self.grid else None
        return FusionConfig.parse({"kind": "none", "grid": grid, "resample": resample})

    def resampler(self, name: str) -> ResampleConfig:
        return self.resample_for.get(name, self.resample)

    def aligned(self, grids: Mapping[str, Grid]) -> dict[str, Grid]:
        """Each encoder's grid after resampling. Raises ConfigError that names the encoder."""
        kind = self.kind_name()
        if not grids:
            raise ConfigError(f"{kind}: there is no encoder to fuse")
        for name in self.resample_for:
            if name not in grids:
                raise ConfigError(f"{kind}: resample_for: {unknown('encoder', name, grids)}")
        if self.grid is None:
            return dict(grids)
        aligned = {}
        for name, grid in grids.items():
            try:
                aligned[name] = self.resampler(name).out(grid, *self.grid)
            except ConfigError as error:
                raise ConfigError(f"{kind}: encoder {name!r}: {error}") from None
        return aligned

    def resampling(self, grids: Mapping[str, Grid]) -> dict[str, tuple[Box, ...]]:
        """For a drawing: the way of each encoder to the common grid; no box where it fits already."""
        boxes: dict[str, tuple[Box, ...]] = {}
        for name, grid in self.aligned(grids).items():
            box = Box(self.resampler(name).kind_name(), f"to {grid.height}x{grid.width}", learned=False)
            boxes[name] = () if grid == grids[name] else (box,)
        return boxes


class Align(nn.Module):
    """Brings named grids to their aligned shapes, in a fixed order."""

    def __init__(self, config: GridFusionConfig, aligned: Mapping[str, Grid]) -> None:
        super().__init__()
        self.shapes = {name: (grid.height, grid.width) for name, grid in aligned.items()}
        self.resamplers = {name: config.resampler(name) for name in aligned}
        self.resizes = config.grid is not None

    def forward(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        if not self.resizes:
            return [features[name] for name in self.shapes]
        return [self.resamplers[name](features[name], *shape) for name, shape in self.shapes.items()]


def agree(kind: str, grids: Mapping[str, Grid], *, by: Literal["shape", "width"]) -> None:
    """Raises ConfigError that names the first two encoders whose grids (or numbers of columns) differ."""
    (first, reference), *others = grids.items()
    for name, grid in others:
        same = grid.width == reference.width and (by == "width" or grid.height == reference.height)
        if not same:
            rows, columns = min((reference.height, reference.width), (grid.height, grid.width))
            what = "grid" if by == "shape" else "columns of grid"
            raise ConfigError(
                f"{kind}: {what} {reference.height}x{reference.width} of {first!r} and {grid.height}x{grid.width} of "
                f"{name!r} cannot be joined without resampling; give a common grid, e.g. grid: [{rows}, {columns}]"
            )


def at_least_two(kind: str, grids: Mapping[str, Grid]) -> None:
    """Raises ConfigError when there is nothing to join."""
    if len(grids) < 2:
        names = ", ".join(repr(name) for name in grids) or "none"
        raise ConfigError(f"{kind}: at least two encoders are wanted, got {len(grids)} ({names}); use none")
