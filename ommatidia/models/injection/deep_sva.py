"""Layers of the Spatial Vision Aggregator inside the decoder (Cambrian-1, arXiv 2406.16860, section 3.2).

Shapes: B batch, T tokens, K views, E language width, P visual tokens that stand in the sequence, row ends left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import ROW_END, View
from ommatidia.models.between import behind
from ommatidia.models.fusion.sva import SVALayer, layer_cost
from ommatidia.models.fusion.windows import Windows, WindowSizes
from ommatidia.models.injection.injection import Injection, InjectionConfig, InjectionContext, VisualContext, place
from ommatidia.models.vision.tiling import TokenLayout

if TYPE_CHECKING:
    from ommatidia.models.language.language import LanguageModel


class DeepSVA(InjectionConfig):
    """Visual tokens stand in the text like words (``inline``), and behind some of the decoder's blocks they look at
    the encoders' windows again: behind block ``start``, and every ``stride`` blocks, ``count`` times (8B: 10, 0, 3;
    13B: 10, 0, 4; 34B: 9, 0, 7). The fusion must leave windows: ``sva``. Its width and heads are the layers' too.

    ``zero_init`` lets the layers start as the identity. The released code draws all of their weights, so that at first
    they disturb a pre-trained decoder.
    """

    kind: Literal["deep_sva"] = "deep_sva"
    row_end: bool = False
    """As ``inline`` has it: Cambrian-1 ends the rows of the unpadded image."""
    count: Annotated[int, Field(gt=0)] = 10
    start: Annotated[int, Field(ge=0)] = 0
    stride: Annotated[int, Field(gt=0)] = 3
    zero_init: bool = False

    @property
    def steers(self) -> bool:
        return True

    @property
    def ends_rows(self) -> bool:
        return self.row_end

    def token_layout(self, layout: TokenLayout, grid: Grid, views: Sequence[View]) -> TokenLayout:
        return layout

    def check(self, context: InjectionContext) -> None:
        self._windows(context)

    def _windows(self, context: InjectionContext) -> WindowSizes:
        """The windows that the fusion keeps. Raises ConfigError where there are none, or the layers do not fit."""
        left, grid, language = context.memory, context.grid, context.language
        if not isinstance(left, WindowSizes):
            raise ConfigError("deep_sva: the fusion leaves no windows to look at again; use the fusion sva")
        if (grid.height, grid.width) != (left.side, left.side):
            raise ConfigError(
                f"deep_sva: the windows stand on a grid of {left.side}x{left.side}, the projector's visual tokens on "
                f"one of {grid.height}x{grid.width}; use a projector that keeps the grid"
            )
        last = self.start + (self.count - 1) * self.stride
        if last >= language.layers:
            raise ConfigError(
                f"deep_sva: {self.count} layers from block {self.start} with stride {self.stride} end behind block "
                f"{last}, but the language model has blocks 0 to {language.layers - 1}"
            )
        return left

    def build(self, context: InjectionContext) -> Injection:
        return DeepSVAInjection(self, self._windows(context), context.language.width)

    def cost(self, context: InjectionContext, *, tokens: int, views: float) -> Cost:
        layer = layer_cost(
            context.language.width, self._windows(context), queries=views * context.grid.tokens, views=views
        )
        row_end = Cost(context.language.width if self.row_end else 0)
        return Cost(self.count * layer.parameters, self.count * layer.flops) + row_end

    @classmethod
    def tiny(cls) -> Self:
        return cls(count=1, zero_init=True)


class DeepSVAInjection(Injection):
    """Fills the placeholders, then changes the visual tokens' hidden states between the decoder's blocks."""

    row_end_E: nn.Parameter | None

    def __init__(self, config: DeepSVA, sizes: WindowSizes, width: int) -> None:
        super().__init__()
        self.row_end_E = nn.Parameter(torch.randn(width) * width**-0.5) if config.row_end else None
        self.layers = nn.ModuleList(SVALayer(width, sizes, zero_init=config.zero_init) for _ in range(config.count))
        self.blocks = range(config.start, config.start + config.count * config.stride, config.stride)

    def forward(self, x_BTE: Tensor, seen: VisualContext) -> Tensor:
        return place(x_BTE, seen, self.row_end_E)

    @contextlib.contextmanager
    def inside(self, language: LanguageModel, seen: VisualContext) -> Iterator[None]:
        looked, visual_BT = cast(Windows, seen.memory), seen.slots_BT
        if seen.visual_index_N is not None:
            standing = seen.visual_index_N != ROW_END
            looked = looked.at(seen.visual_index_N[standing])
            visual_BT = visual_BT.masked_scatter(visual_BT, standing)
        looks = [_Look(cast(SVALayer, layer), looked, visual_BT) for layer in self.layers]
        with behind(language.blocks, dict(zip(self.blocks, looks, strict=True))):
            yield


class _Look:
    """Changes the hidden states of visual tokens behind one block, once the whole sequence passes.

    With a cache the first pass is the prompt; the single tokens that follow it are words and pass unchanged.
    """

    def __init__(self, layer: SVALayer, looked: Windows, visual_BT: Tensor) -> None:
        self.layer, self.looked, self.visual_BT = layer, looked, visual_BT
        self.decoding = False

    def __call__(self, h_BTE: Tensor) -> Tensor:
        if self.decoding and h_BTE.shape[1] == 1:
            return h_BTE
        self.decoding = True
        x_PE = self.layer(h_BTE[self.visual_BT].to(self.looked.context_KC.dtype), self.looked)
        return h_BTE.masked_scatter(self.visual_BT.unsqueeze(-1), x_PE.to(h_BTE.dtype))
