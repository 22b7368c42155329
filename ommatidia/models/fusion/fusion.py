"""The fusion contract: grids of named encoders in, one grid out; shapes and costs known before any weight exists.

Shapes: B batch, H rows, W columns, D channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.grid import Cost, Grid
from ommatidia.models.fusion.resample import Auto, ResampleConfig

Positive = Annotated[int, Field(gt=0)]


class FusionConfig(Config, family=True):
    """How the grids of several encoders become one. The order of the encoders is the order of the mapping."""

    @abstractmethod
    def out(self, grids: Mapping[str, Grid]) -> Grid:
        """The fused grid. Raises ConfigError that names the encoders and grids which do not fit."""

    @abstractmethod
    def build(self, grids: Mapping[str, Grid]) -> Fusion:
        """A module for encoders of these grids. New weights are drawn from the ambient generator."""

    @abstractmethod
    def cost(self, grids: Mapping[str, Grid]) -> Cost:
        """Parameters, and operations for one view."""

    def single(self, name: str) -> FusionConfig:
        """What this fusion comes down to for one encoder by itself: the design it is pre-aligned in."""
        return FusionConfig.parse("none")

    @classmethod
    def tiny(cls) -> Self:
        """A small member for tests and examples."""
        return cls()

    @classmethod
    def tiny_grids(cls) -> dict[str, Grid]:
        """Grids that ``tiny()`` can join."""
        return {"left": Grid(4, 4, 6), "right": Grid(4, 4, 10)}


class Fusion(nn.Module, ABC):
    """Base of fusion modules: ``forward({encoder: x_BHWD}) -> y_BHWD``, whatever order the mapping comes in."""

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> Tensor: ...


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
        kind = type(self).model_fields["kind"].default
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
