"""From a MLLMConfig to modules: each part with random weights of its own, or with the weights that its config names."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from ommatidia.core.errors import AlignmentError, ConfigError, unknown
from ommatidia.models.adapters import adapt, quantize
from ommatidia.models.config import MLLMConfig
from ommatidia.models.model import MLLM
from ommatidia.models.vision.encoder import VisionEncoder


def build_model(
    config: MLLMConfig,
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
    shape, grids, fused, grid = config.language.shape(), config.grids(), config.fused_grid(), config.visual_grid()
    model = MLLM()
    with _Seeded(seed, "language"):
        model.language = config.language.build(pretrained=pretrained)
    for name, encoder in config.encoders.items():
        with _Seeded(seed, f"encoders.{name}"):
            if name in without_trunks:
                model.encoders[name] = VisionEncoder(StoredTrunk(name), encoder.neck.build(encoder.trunk_grid()))
            else:
                model.encoders[name] = encoder.build(pretrained=pretrained or name in fetched)
    if fused is not None and grid is not None:
        with _Seeded(seed, "fusion"):
            model.fusion = config.fusion.build(grids, config.fusion_context())
        with _Seeded(seed, "projector"):
            model.projector = config.projector.build(fused, shape.width)
        with _Seeded(seed, "injection"):
            model.injection = config.injection.build(config.injection_context())
    for part, adapter in config.adapted().items():
        if part.removeprefix("encoders.") not in without_trunks:
            with _Seeded(seed, f"{part} adapter"):
                adapt(model.parts()[part], adapter, field=f"adapters.{part}")
    if pretrained:
        quantize(model.parts(), config.adapted())
    views = {name: seen for name, seen in config.grids().items() if name in config.tiling.seen_whole}
    model.seen_whole = {name: (grid.height, grid.width) for name, grid in views.items()}
    return model


def build_untrained_part(config: MLLMConfig, part: str) -> nn.Module:
    """One part by its name, to look at; inside ``torch.device("meta")`` it takes no memory."""
    module = _untrained(config, part)
    if (adapter := config.adapted().get(part)) is not None:
        adapt(module, adapter, field=f"adapters.{part}")
    return module


def _untrained(config: MLLMConfig, part: str) -> nn.Module:
    fused, grid, shape = config.fused_grid(), config.visual_grid(), config.language.shape()
    if part == "language":
        return config.language.build(pretrained=False)
    if part.startswith("encoders."):
        return config.encoders[part.removeprefix("encoders.")].build(pretrained=False)
    if fused is None or grid is None:
        raise ConfigError(unknown("part", part, ("language",)))
    if part == "fusion":
        return config.fusion.build(config.grids(), config.fusion_context())
    if part == "projector":
        return config.projector.build(fused, shape.width)
    return config.injection.build(config.injection_context())


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
