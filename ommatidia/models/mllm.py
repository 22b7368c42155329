"""The multimodal language model: encode, fuse, project, inject, speak.

Shapes: B batch, T tokens, K views of the whole batch, H rows, W columns, D feature channels, E language width,
S supervised positions, V vocabulary.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import IGNORE_LABEL, Batch, Example
from ommatidia.models.fusion.fusion import Between, Fusion, FusionConfig
from ommatidia.models.injection import Injection, InjectionConfig, Inline, Seen
from ommatidia.models.language import ChatFormat, LanguageConfig, LanguageModel
from ommatidia.models.projector import ProjectorConfig
from ommatidia.models.vision.encoder import EncoderConfig, VisionEncoder
from ommatidia.models.vision.tiling import Places, Script, TilingConfig, Whole

_NAME = re.compile(r"[a-z][a-z0-9_@]*")


class MLLMConfig(Config):
    """A whole model as a value. Without encoders it is a plain language model: pictures take no place in its text."""

    encoders: dict[str, EncoderConfig] = Field(default_factory=dict)
    """By name, in channel order; names become part names ``encoders.<name>``."""
    tiling: TilingConfig = Whole()
    fusion: FusionConfig = Field("none", validate_default=True)
    projector: ProjectorConfig = Field("mlp", validate_default=True)
    injection: InjectionConfig = Inline()
    language: LanguageConfig
    chat: ChatFormat

    @model_validator(mode="after")
    def _fits(self) -> MLLMConfig:
        for name in self.encoders:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"encoders: {name!r} must be lower-case letters, digits, '_' or '@', for example clip_l"
                )
            if hasattr(nn.ModuleDict(), name):
                raise ConfigError(f"encoders: {name!r} is a word that torch's modules keep for themselves; add to it")
        tokens = self.tokens_per_view
        context = self.language.shape().context
        if tokens >= context:
            raise ConfigError(f"{tokens} visual tokens a view leave no room for text in a context of {context}")
        return self

    def hashed(self) -> Any:
        """Without encoders the visual parts are never built, so that blind models of any fusion are one model."""
        data = super().hashed()
        absent = () if self.encoders else ("tiling", "fusion", "projector", "injection")
        return {name: value for name, value in data.items() if name not in absent}

    def grids(self) -> dict[str, Grid]:
        """What each encoder hands to the fusion."""
        return {name: encoder.grid() for name, encoder in self.encoders.items()}

    def fused_grid(self) -> Grid | None:
        """What the fusion hands to the projector; None without encoders."""
        return self.fusion.out(self.grids()) if self.encoders else None

    def visual_grid(self) -> Grid | None:
        """What one view brings to the language model; None without encoders. Raises ConfigError if parts do not fit."""
        fused = self.fused_grid()
        return None if fused is None else self.projector.out(fused, self.language.shape().width)

    def script(self, height: int, width: int) -> Script:
        """What stands in the text for a picture of this size (pixels): marks and visual tokens, in order."""
        grid = self.visual_grid()
        return () if grid is None else self.injection.script(self.tiling.script(height, width, grid), grid)

    def visual_tokens(self, height: int, width: int) -> int:
        """Positions of the sequence that the visual tokens of a picture of this size take, marks not counted."""
        return sum(len(piece.numbers) for piece in self.script(height, width) if isinstance(piece, Places))

    @property
    def tokens_per_view(self) -> int:
        """Positions of the sequence that a picture takes which one view shows whole."""
        side = 1  # the smallest picture: no tiling cuts it
        return self.visual_tokens(side, side)

    def cost(
        self, *, text_tokens: int, views: float, head_tokens: int, visual_tokens: int | None = None
    ) -> dict[str, Cost]:
        """Per part: parameters, and operations of one forward pass over a sample of this size.

        ``visual_tokens``: positions that pictures take in the sequence; None: each view brings all its tokens.
        """
        shape, grid = self.language.shape(), self.visual_grid()
        tokens = text_tokens + (round(views * self.tokens_per_view) if visual_tokens is None else visual_tokens)
        costs = {f"encoders.{name}": encoder.cost().times(views) for name, encoder in self.encoders.items()}
        if grid is not None:
            fusion = self.fusion.reading(shape.width)
            costs["fusion"] = fusion.cost(self.grids()).times(views)
            costs["projector"] = self.projector.cost(fusion.out(self.grids()), shape.width).times(views)
            costs["injection"] = self.injection.cost(grid, shape, tokens=tokens, views=views)
        costs["language"] = shape.cost(tokens=tokens, head_tokens=head_tokens)
        return costs

    def build(self, *, seed: int, pretrained: bool = True, without_trunks: frozenset[str] = frozenset()) -> MLLM:
        """The module. Each part draws its random weights from (seed, part name), so that a part's start does not
        depend on which other parts the design has. ``pretrained=False`` skips reading weights that a load will replace;
        encoders named in ``without_trunks`` get their neck alone, for batches that bring stored features.
        """
        shape, grids, fused, grid = self.language.shape(), self.grids(), self.fused_grid(), self.visual_grid()
        model = MLLM()
        with _Seeded(seed, "language"):
            model.language = self.language.build(pretrained=pretrained)
        for name, encoder in self.encoders.items():
            with _Seeded(seed, f"encoders.{name}"):
                if name in without_trunks:
                    model.encoders[name] = VisionEncoder(StoredTrunk(name), encoder.neck.build(encoder.trunk_grid()))
                else:
                    model.encoders[name] = encoder.build(pretrained=pretrained)
        if fused is not None and grid is not None:
            with _Seeded(seed, "fusion"):
                model.fusion = self.fusion.reading(shape.width).build(grids)
            with _Seeded(seed, "projector"):
                model.projector = self.projector.build(fused, shape.width)
            with _Seeded(seed, "injection"):
                model.injection = self.injection.build(grid, shape)
        return model


class _Seeded:
    """Torch's generator set from (seed, part) inside the block and restored after it."""

    def __init__(self, seed: int, part: str) -> None:
        self._seed = int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[:7], "big")

    def __enter__(self) -> None:
        self._state = torch.get_rng_state()
        torch.manual_seed(self._seed)

    def __exit__(self, *exception: object) -> None:
        torch.set_rng_state(self._state)


class StoredTrunk(nn.Module):
    """Stands where a trunk was left out because its features are stored; seeing pixels through it is an error."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        raise AlignmentError(f"encoder {self.name!r} was built for stored features, but the batch brings pixels")


class MLLM(nn.Module):
    """Built by ``MLLMConfig.build``. Its parts are the unit of training, saving, sharing and reporting."""

    encoders: nn.ModuleDict
    language: LanguageModel
    fusion: Fusion
    projector: nn.Module
    injection: Injection
    """Fusion, projector and injection are absent where there are no encoders."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict()

    def parts(self) -> dict[str, nn.Module]:
        """The parts by their stable names; a model without encoders has only ``language``."""
        if not self.encoders:
            return {"language": self.language}
        return {
            **{f"encoders.{name}": encoder for name, encoder in self.encoders.items()},
            "fusion": self.fusion,
            "projector": self.projector,
            "injection": self.injection,
            "language": self.language,
        }

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """x_KHWD of every encoder, from pixels, or from stored trunk features where the batch brings them."""

        def look(name: str, between: Between | None = None) -> Tensor:
            encoder = cast(VisionEncoder, self.encoders[name])
            if name in batch.features:
                return encoder.refine(batch.features[name])
            return encoder(batch.pixels[name]) if between is None else encoder(batch.pixels[name], between)

        return self.fusion.encode(tuple(self.encoders), look)

    def embed(self, batch: Batch) -> tuple[Tensor, Seen | None]:
        """The sequence as embeddings x_BTE, visual tokens in place, and what was seen if there were pictures."""
        x_BTE = self.language.embed(batch.ids_BT)
        if batch.views is None or not self.encoders:  # text only: no encoder runs
            return x_BTE, None
        fused = self.fusion(self.encode(batch), batch.views.asked(_question(x_BTE, batch)))
        v_KHWE = self.projector(fused.y_KHWD)
        seen = Seen.by(batch, v_KHWE, fused.memory)
        return self.injection(x_BTE, seen), seen

    def read(self, x_BTE: Tensor, mask_BT: Tensor, seen: Seen | None) -> Tensor:
        """Hidden states h_BTE of embedded text, looking again at what was seen where the injection has such layers."""
        if seen is None:
            return self.language(x_BTE, mask_BT)
        with self.injection.inside(self.language, seen):
            return self.language(x_BTE, mask_BT)

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states h_BTE. Raises AlignmentError when placeholders and visual tokens differ in number."""
        x_BTE, seen = self.embed(batch)
        return self.read(x_BTE, batch.mask_BT, seen)

    @staticmethod
    def targets(example: Example) -> int:
        """Positions that the model is scored on: the first one has nothing before it to be predicted from."""
        return int((example.labels[1:] != IGNORE_LABEL).sum())

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Sum of the next-token losses and how many tokens they are; logits are made for those positions alone."""
        targets_BT = batch.labels_BT[:, 1:]
        chosen_BT = targets_BT != IGNORE_LABEL
        h_SE = self(batch)[:, :-1][chosen_BT]
        logits_SV = self.language.head(h_SE).float()
        total = nn.functional.cross_entropy(logits_SV, targets_BT[chosen_BT], reduction="sum")
        return total, int(chosen_BT.sum())


def _question(x_BTE: Tensor, batch: Batch) -> Tensor:
    """The mean embedding of the user's words in each row, zero where none are marked."""
    asked_BT1 = (torch.zeros_like(batch.mask_BT) if batch.asked_BT is None else batch.asked_BT).unsqueeze(-1)
    return (x_BTE * asked_BT1).sum(1) / asked_BT1.sum(1).clamp(min=1)
