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
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Batch
from ommatidia.models.fusion.fusion import Fusion, FusionConfig
from ommatidia.models.injection import Injection, InjectionConfig, Inline
from ommatidia.models.language import ChatFormat, LanguageConfig, LanguageModel
from ommatidia.models.projector import ProjectorConfig
from ommatidia.models.vision.encoder import EncoderConfig, VisionEncoder

_NAME = re.compile(r"[a-z][a-z0-9_@]*")


class MLLMConfig(Config):
    """A whole model as a value. Without encoders it is a plain language model: pictures take no place in its text."""

    encoders: dict[str, EncoderConfig] = Field(default_factory=dict)
    """By name, in channel order; names become part names ``encoders.<name>``."""
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
        absent = () if self.encoders else ("fusion", "projector", "injection")
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

    @property
    def tokens_per_view(self) -> int:
        """Positions of the sequence that one view takes."""
        grid = self.visual_grid()
        return 0 if grid is None else self.injection.placeholders(grid)

    def cost(self, *, text_tokens: int, views: int, head_tokens: int) -> dict[str, Cost]:
        """Per part: parameters, and operations of one forward pass over a sample of this size."""
        shape, grid = self.language.shape(), self.visual_grid()
        tokens = text_tokens + views * self.tokens_per_view
        costs = {f"encoders.{name}": encoder.cost().times(views) for name, encoder in self.encoders.items()}
        if grid is not None:
            fused = self.fusion.out(self.grids())
            costs["fusion"] = self.fusion.cost(self.grids()).times(views)
            costs["projector"] = self.projector.cost(fused, shape.width).times(views)
            costs["injection"] = self.injection.cost(grid, shape).times(views)
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
                model.fusion = self.fusion.build(grids)
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
        return {name: self._encode(name, batch) for name in self.encoders}

    def _encode(self, name: str, batch: Batch) -> Tensor:
        encoder = cast(VisionEncoder, self.encoders[name])
        return encoder.refine(batch.features[name]) if name in batch.features else encoder(batch.pixels[name])

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The sequence as embeddings x_BTE, visual tokens in place, and the projected views v_KHWE if there are any."""
        x_BTE = self.language.embed(batch.ids_BT)
        if not batch.views or not self.encoders:  # text only: no encoder runs
            return x_BTE, None
        y_KHWD = self.fusion(self.encode(batch))
        v_KHWE = self.projector(y_KHWD)
        return self.injection(x_BTE, batch.ids_BT == IMAGE_TOKEN_ID, v_KHWE), v_KHWE

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states h_BTE. Raises AlignmentError when placeholders and visual tokens differ in number."""
        x_BTE, v_KHWE = self.embed(batch)
        if v_KHWE is None:
            return self.language(x_BTE, batch.mask_BT)
        with self.injection.inside(self.language, batch.ids_BT == IMAGE_TOKEN_ID, v_KHWE):
            return self.language(x_BTE, batch.mask_BT)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Sum of the next-token losses and how many tokens they are; logits are made for those positions alone."""
        targets_BT = batch.labels_BT[:, 1:]
        chosen_BT = targets_BT != IGNORE_LABEL
        h_SE = self(batch)[:, :-1][chosen_BT]
        logits_SV = self.language.head(h_SE).float()
        total = nn.functional.cross_entropy(logits_SV, targets_BT[chosen_BT], reduction="sum")
        return total, int(chosen_BT.sum())
