"""The multimodal language model: encode, fuse, project, inject, speak.

Shapes: B batch, T tokens, K views of the whole batch, H rows, W columns, D feature channels, E language width,
S supervised positions, V vocabulary.
"""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ommatidia.core.config import Config, once
from ommatidia.core.errors import AlignmentError, ConfigError, unknown
from ommatidia.core.globs import by_part
from ommatidia.core.grid import Cost, Grid
from ommatidia.core.types import IGNORE_LABEL, ROW_END, Batch, Example
from ommatidia.models.adapters import LoRA, adapt, is_adapter, quantize
from ommatidia.models.fusion.fusion import Between, Fusion, FusionConfig
from ommatidia.models.injection import Injection, InjectionConfig, Inline, Seen
from ommatidia.models.language import ChatFormat, LanguageConfig, LanguageModel
from ommatidia.models.language.apart import family_of, unsteered
from ommatidia.models.projector import ProjectorConfig
from ommatidia.models.vision.encoder import EncoderConfig, VisionEncoder
from ommatidia.models.vision.tiling import Places, Script, TilingConfig, Whole
from ommatidia.models.vision.tilings.cutting import cut_maps

_NAME = re.compile(r"[a-z][a-z0-9_@]{0,99}")


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
            self._fusion()
            self._injection()
        return self

    def _tiles_fit(self) -> None:
        """Raises ConfigError where the tiling does not go with encoders, fusion, injection or context."""
        steered = self.fusion.steered(tuple(self.encoders))
        for name in self.tiling.seen_whole:
            if name not in self.encoders:
                raise ConfigError(f"{self.tiling}: whole: {unknown('encoder', name, self.encoders)}")
            if name in steered:
                raise ConfigError(
                    f"{self.tiling}: encoder {name!r} is to see pictures whole, but the fusion "
                    f"{self.fusion.kind} steers it view by view"  # type: ignore[attr-defined]
                )
        self.tiling.suits(
            {name: e.preprocess().fit for name, e in self.encoders.items() if name not in self.tiling.seen_whole}
        )
        height, width = self.tiling.largest()
        script = self.script(height, width)
        if not self.injection.ends_rows and any(
            isinstance(piece, Places) and ROW_END in piece.numbers for piece in script
        ):
            raise ConfigError(
                f"{self.tiling} ends each row of visual tokens, but injection "
                f"{self.injection.kind} has no vector for that; set its row_end to true"  # type: ignore[attr-defined]
            )
        tokens, context = self.most_visual_tokens, self.language.shape().context
        if tokens >= context:
            of = "a view" if tokens == self.tokens_per_view else f"of a picture of {width}x{height} px"
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

    def _fusion(self) -> FusionConfig:
        """The fusion as it is built: it knows the language model's width and the encoders that it steers."""
        if self.fusion.counts_on_padding:
            for name, encoder in self.encoders.items():
                prepare = encoder.preprocess()
                if prepare.fit not in ("pad", "pad_first") or prepare.size[0] != prepare.size[1]:
                    rows, columns = prepare.size
                    raise ConfigError(
                        f"fusion: it counts on pictures that are padded to a square, but encoder {name!r} has fit "
                        f"{prepare.fit!r} at {rows}x{columns} px; change either, or set fusion.padded to false"
                    )
        steered = self.fusion.steered(tuple(self.encoders))
        blocks = {name: encoder.blocks() for name, encoder in self.encoders.items() if name in steered}
        return self.fusion.reading(self.language.shape().width).over(blocks)

    def _injection(self) -> InjectionConfig:
        """The injection as it is built: it knows what the fusion leaves for it."""
        grid = self.visual_grid()
        assert grid is not None
        return self.injection.reading(self.fusion.leaves(self.grids()), grid, self.language.shape())

    def script(self, height: int, width: int) -> Script:
        """What stands in the text for a picture of this size (pixels): marks and visual tokens, in order."""
        grid = self.visual_grid()
        if grid is None:
            return ()
        script, views = self.tiling.script(height, width, grid), self.tiling.views(height, width)
        return self.injection.script(script, grid, views)

    def visual_tokens(self, height: int, width: int) -> int:
        """Positions of the sequence that the visual tokens of a picture of this size take, marks not counted."""
        return _positions(self.script(height, width))

    @property
    def tokens_per_view(self) -> int:
        """Positions of the sequence that one view takes by itself."""
        grid = self.visual_grid()
        return (
            0
            if grid is None
            else _positions(self.injection.script(Whole().script(1, 1, grid), grid, Whole().views(1, 1)))
        )

    @property
    def most_visual_tokens(self) -> int:
        """Positions of the sequence that the visual tokens of one picture can take at most."""
        return self.visual_tokens(*self.tiling.largest())

    def cost(
        self,
        *,
        text_tokens: int,
        views: float,
        head_tokens: int,
        visual_tokens: int | None = None,
        pictures: float | None = None,
    ) -> dict[str, Cost]:
        """Per part: parameters, and operations of one forward pass over a sample of this size.

        ``visual_tokens``: positions that pictures take in the sequence; None: each view brings all its tokens.
        ``pictures``: what encoders see that see pictures whole; None: every view is a picture.
        """
        shape, grid = self.language.shape(), self.visual_grid()
        tokens = text_tokens + (round(views * self.tokens_per_view) if visual_tokens is None else visual_tokens)
        looks = dict.fromkeys(self.tiling.seen_whole, views if pictures is None else pictures)
        costs = {f"encoders.{n}": encoder.cost().times(looks.get(n, views)) for n, encoder in self.encoders.items()}
        if grid is not None:
            fusion = self._fusion()
            costs["fusion"] = fusion.cost(self.grids()).times(views)
            costs["projector"] = self.projector.cost(fusion.out(self.grids()), shape.width).times(views)
            costs["injection"] = self._injection().cost(grid, shape, tokens=tokens, views=views)
        costs["language"] = shape.cost(tokens=tokens, head_tokens=head_tokens)
        for part in self.adapted():
            costs[part] = costs[part] + Cost(_adapter_parameters(self, part))
        return costs

    def build(
        self,
        *,
        seed: int,
        pretrained: bool = True,
        without_trunks: frozenset[str] = frozenset(),
        fetched: frozenset[str] = frozenset(),
    ) -> MLLM:
        """The module. Each part draws its random weights from (seed, part name), so that a part's start does not
        depend on which other parts the design has. ``pretrained=False`` skips reading weights that a load will replace,
        but for the encoders named in ``fetched``; those named in ``without_trunks`` get their neck alone, for batches
        that bring stored features.
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
                    model.encoders[name] = encoder.build(pretrained=pretrained or name in fetched)
        if fused is not None and grid is not None:
            with _Seeded(seed, "fusion"):
                model.fusion = self._fusion().build(grids)
            with _Seeded(seed, "projector"):
                model.projector = self.projector.build(fused, shape.width)
            with _Seeded(seed, "injection"):
                model.injection = self._injection().build(grid, shape)
        for part, adapter in self.adapted().items():
            if part.removeprefix("encoders.") not in without_trunks:
                with _Seeded(seed, f"{part} adapter"):
                    adapt(model.parts()[part], adapter, field=f"adapters.{part}")
        if pretrained:
            quantize(model.parts(), self.adapted())
        views = {name: seen for name, seen in self.grids().items() if name in self.tiling.seen_whole}
        model.seen_whole = {name: (grid.height, grid.width) for name, grid in views.items()}
        return model

    def untrained(self, part: str) -> nn.Module:
        """One part by its name, to look at; inside ``torch.device("meta")`` it takes no memory."""
        module = self._untrained(part)
        if (adapter := self.adapted().get(part)) is not None:
            adapt(module, adapter, field=f"adapters.{part}")
        return module

    def _untrained(self, part: str) -> nn.Module:
        fused, grid, shape = self.fused_grid(), self.visual_grid(), self.language.shape()
        if part == "language":
            return self.language.build(pretrained=False)
        if part.startswith("encoders."):
            return self.encoders[part.removeprefix("encoders.")].build(pretrained=False)
        if fused is None or grid is None:
            raise ConfigError(unknown("part", part, ("language",)))
        if part == "fusion":
            return self._fusion().build(self.grids())
        if part == "projector":
            return self.projector.build(fused, shape.width)
        return self._injection().build(grid, shape)


@lru_cache(maxsize=64)
def _adapter_parameters(config: MLLMConfig, part: str) -> int:
    """How many parameters the adapters of a part have."""
    with torch.device("meta"):
        module = config.untrained(part)
    return sum(parameter.numel() for name, parameter in module.named_parameters() if is_adapter(name))


def _positions(script: Script) -> int:
    return sum(len(piece.numbers) for piece in script if isinstance(piece, Places))


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
    seen_whole: dict[str, tuple[int, int]]
    """Encoders that see whole pictures, and the rows and columns of what is cut from their maps for one view."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict()
        self.seen_whole = {}

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
                x_KHWD = encoder.refine(batch.features[name])
            else:
                x_KHWD = encoder(batch.pixels[name], *(() if between is None else (between,)))
            if name in self.seen_whole and batch.views is not None:  # one row a picture so far
                return cut_maps(x_KHWD, batch.views, *self.seen_whole[name])
            return x_KHWD

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

    def read(self, x_BTE: Tensor, mask_BT: Tensor, seen: Seen | None, lengths: tuple[int, ...] | None = None) -> Tensor:
        """Hidden states h_BTE of embedded text, looking again at what was seen where the injection has such layers."""
        if seen is None:
            return self.language(x_BTE, mask_BT, lengths)
        if lengths is not None and self.injection.steers and not self.language.in_rows:
            raise ConfigError(unsteered(family_of(self.language.decoder.config)))
        with self.injection.inside(self.language, seen):
            return self.language(x_BTE, mask_BT, lengths)

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states h_BTE. Raises AlignmentError when placeholders and visual tokens differ in number."""
        x_BTE, seen = self.embed(batch)
        return self.read(x_BTE, batch.mask_BT, seen, batch.lengths)

    @staticmethod
    def targets(example: Example) -> int:
        """Positions that the model is scored on: the first one has nothing before it to be predicted from."""
        return int((example.labels[1:] != IGNORE_LABEL).sum())

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Sum of the next-token losses and how many tokens they are; logits are made for those positions alone."""
        targets_BT = batch.labels_BT[:, 1:]
        chosen_BT = targets_BT != IGNORE_LABEL
        h_SE = self(batch)[:, :-1][chosen_BT]
        return self.language.loss(h_SE, targets_BT[chosen_BT]), int(chosen_BT.sum())


def _question(x_BTE: Tensor, batch: Batch) -> Tensor:
    """The mean embedding of the user's words in each sample, zero where none are marked."""
    asked_BT1 = (torch.zeros_like(batch.mask_BT) if batch.asked_BT is None else batch.asked_BT).unsqueeze(-1)
    if batch.lengths is None:
        return (x_BTE * asked_BT1).sum(1) / asked_BT1.sum(1).clamp(min=1)
    said, words = ((whole[0]).split(list(batch.lengths)) for whole in (x_BTE * asked_BT1, asked_BT1))
    return torch.stack([one.sum(0) / count.sum(0).clamp(min=1) for one, count in zip(said, words, strict=True)])
