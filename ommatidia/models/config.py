"""MLLMConfig: a whole model as a value. What fits together, the shapes between parts, the layout of visual tokens."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field, model_validator
from torch import nn

from ommatidia.core.config import Config, once
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.globs import by_part
from ommatidia.core.grid import Grid
from ommatidia.core.types import ROW_END
from ommatidia.models.adapters import LoRA
from ommatidia.models.fusion.fusion import FusionConfig, FusionContext
from ommatidia.models.injection import InjectionConfig, Inline
from ommatidia.models.injection.injection import InjectionContext
from ommatidia.models.language import ChatFormat, LanguageConfig
from ommatidia.models.projector import ProjectorConfig
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.models.vision.tiling import TilingConfig, TokenLayout, VisualTokens, Whole

_NAME = re.compile(r"[a-z][a-z0-9_@]{0,99}")


class MLLMConfig(Config):
    """A whole model as a value. Without encoders it is a plain language model: images take no place in its text."""

    encoders: dict[str, EncoderConfig] = Field(default_factory=dict)
    """By name, in channel order; names become part names ``encoders.<name>``."""
    tiling: TilingConfig = Whole()
    fusion: FusionConfig = Field("none", validate_default=True)
    projector: ProjectorConfig = Field("mlp", validate_default=True)
    injection: InjectionConfig = Inline()
    language: LanguageConfig
    chat: ChatFormat
    adapters: dict[str, LoRA] = Field(default_factory=dict)
    """By glob over part names (the most specific wins): parts that get small matrices to train beside their own."""

    @model_validator(mode="after")
    def _fits(self) -> MLLMConfig:
        by_part(self.adapters, self.part_names(), field="adapters")
        for name in self.encoders:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"encoders: {name!r} must be at most 100 lower-case letters, digits, '_' or '@', for example clip_l"
                )
            if hasattr(nn.ModuleDict(), name):
                raise ConfigError(f"encoders: {name!r} is a word that torch's modules keep for themselves; add to it")
        if self.encoders:
            self._tiles_fit()
            self._check_padding()
            self.fusion.check(self.fusion_context())
            self.injection.check(self.injection_context())
        return self

    def _tiles_fit(self) -> None:
        """Raises ConfigError where the tiling does not go with encoders, fusion, injection or context."""
        steered = self.fusion.steered(tuple(self.encoders))
        for name in self.tiling.seen_whole:
            if name not in self.encoders:
                raise ConfigError(f"{self.tiling}: whole: {unknown('encoder', name, self.encoders)}")
            if name in steered:
                raise ConfigError(
                    f"{self.tiling}: encoder {name!r} is to see images whole, but the fusion "
                    f"{self.fusion.kind_name()} steers it view by view"
                )
        self.tiling.check_fit(
            {name: e.preprocess().fit for name, e in self.encoders.items() if name not in self.tiling.seen_whole}
        )
        height, width = self.tiling.largest()
        layout = self.token_layout(height, width)
        if not self.injection.ends_rows and any(
            isinstance(piece, VisualTokens) and ROW_END in piece.numbers for piece in layout
        ):
            raise ConfigError(
                f"{self.tiling} ends each row of visual tokens, but injection "
                f"{self.injection.kind_name()} has no vector for that; set its row_end to true"
            )
        tokens, context = self.most_visual_tokens, self.language.shape().context
        if tokens >= context:
            of = "a view" if tokens == self.tokens_per_view else f"of an image of {width}x{height} px"
            raise ConfigError(f"{tokens} visual tokens {of} leave no room for text in a context of {context}")

    def hashed(self) -> Any:
        """Without encoders the visual parts are never built, so that blind models of any fusion are one model."""
        data = super().hashed()
        absent = {"adapters", *(() if self.encoders else ("tiling", "fusion", "projector", "injection"))}
        found = {name: value for name, value in data.items() if name not in absent}
        adapted = {part: adapter.hashed() for part, adapter in self.adapted().items()}
        return found | ({"adapters": adapted} if adapted else {})  # so that models without any keep their digest

    def part_names(self) -> tuple[str, ...]:
        """The names of the parts that the model has once it is built."""
        if not self.encoders:
            return ("language",)
        return (*(f"encoders.{name}" for name in self.encoders), "fusion", "projector", "injection", "language")

    @once
    def adapted(self) -> dict[str, LoRA]:
        """The adapter of each adapted part."""
        parts = self.part_names()
        # A model of one expert, taken out of this one, keeps the globs that are about the others.
        here = {g: adapter for g, adapter in self.adapters.items() if any(fnmatchcase(part, g) for part in parts)}
        return by_part(here, parts, field="adapters")

    @once
    def grids(self) -> dict[str, Grid]:
        """What each encoder hands to the fusion for one view."""
        whole, part = self.tiling.seen_whole, self.tiling.view_grid
        return {n: part(e.grid()) if n in whole else e.grid() for n, e in self.encoders.items()}

    @once
    def fused_grid(self) -> Grid | None:
        """What the fusion hands to the projector; None without encoders."""
        return self.fusion.out(self.grids()) if self.encoders else None

    @once
    def visual_grid(self) -> Grid | None:
        """What one view brings to the language model; None without encoders. Raises ConfigError if parts do not fit."""
        fused = self.fused_grid()
        return None if fused is None else self.projector.out(fused, self.language.shape().width)

    def fusion_context(self) -> FusionContext:
        """What the fusion may need to know beside the encoders' grids."""
        steered = self.fusion.steered(tuple(self.encoders))
        blocks = {name: encoder.blocks() for name, encoder in self.encoders.items() if name in steered}
        return FusionContext(self.language.shape().width, blocks)

    def injection_context(self) -> InjectionContext:
        """What the injection needs to know. Only of a design with encoders."""
        grid = self.visual_grid()
        assert grid is not None
        return InjectionContext(grid, self.language.shape(), self.fusion.memory_shape(self.grids()))

    def _check_padding(self) -> None:
        """Raises ConfigError where the fusion counts on padded images and an encoder does not pad."""
        if not self.fusion.counts_on_padding:
            return
        for name, encoder in self.encoders.items():
            prepare = encoder.preprocess()
            if prepare.fit not in ("pad", "pad_first") or prepare.size[0] != prepare.size[1]:
                rows, columns = prepare.size
                raise ConfigError(
                    f"fusion: it counts on images that are padded to a square, but encoder {name!r} has fit "
                    f"{prepare.fit!r} at {rows}x{columns} px; change either, or set fusion.padded to false"
                )

    def token_layout(self, height: int, width: int) -> TokenLayout:
        """What stands in the text for an image of this size (pixels): marks and visual tokens, in order."""
        grid = self.visual_grid()
        if grid is None:
            return ()
        layout, views = self.tiling.token_layout(height, width, grid), self.tiling.views(height, width)
        return self.injection.token_layout(layout, grid, views)

    def visual_tokens(self, height: int, width: int) -> int:
        """Positions of the sequence that the visual tokens of an image of this size take, marks not counted."""
        return _positions(self.token_layout(height, width))

    @property
    def tokens_per_view(self) -> int:
        """Positions of the sequence that one view takes by itself."""
        grid = self.visual_grid()
        return (
            0
            if grid is None
            else _positions(self.injection.token_layout(Whole().token_layout(1, 1, grid), grid, Whole().views(1, 1)))
        )

    @property
    def most_visual_tokens(self) -> int:
        """Positions of the sequence that the visual tokens of one image can take at most."""
        return self.visual_tokens(*self.tiling.largest())


def _positions(layout: TokenLayout) -> int:
    return sum(len(piece.numbers) for piece in layout if isinstance(piece, VisualTokens))
