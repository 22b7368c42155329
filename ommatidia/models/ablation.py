"""Taking experts out of a mixture at inference: change what an encoder saw, give it another image, or leave it out.

A change stands between the encoders and the fusion and ends with its context; the model itself is never altered.
Shapes: K views, H rows, W columns, D channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.types import Batch, Example, Picture, Sample, Views
from ommatidia.models.config import MLLMConfig
from ommatidia.models.fusion.fusion import BlockEdits, Fused, Fusion, GridFusionConfig, RunEncoder
from ommatidia.models.model import MLLM
from ommatidia.models.processor import FeatureLookup, Processor

Change = Callable[[Tensor], Tensor]
"""What x_KHWD of one encoder becomes before anything else sees it."""


class Ablated(Fusion):
    """A fusion behind changes. Encoders that steer others are changed first, so that nothing slips past."""

    def __init__(self, inner: Fusion, changes: Mapping[str, Change]) -> None:
        super().__init__()
        self.inner, self.changes = inner, dict(changes)

    def encode(self, names: Sequence[str], look: RunEncoder) -> dict[str, Tensor]:
        def changed(name: str, between: BlockEdits | None = None) -> Tensor:
            x_KHWD = look(name, between)
            return self.changes[name](x_KHWD) if name in self.changes else x_KHWD

        return self.inner.encode(names, changed)

    def forward(self, features: Mapping[str, Tensor], views: Views) -> Fused:
        return self.inner(features, views)


@contextlib.contextmanager
def ablated(model: MLLM, changes: Mapping[str, Change]) -> Iterator[None]:
    """Inside the context the fusion gets these features changed. Raises ConfigError for an unknown encoder."""
    for name in changes:
        if name not in model.encoders:
            raise ConfigError(unknown("encoder", name, model.encoders))
    inner = model.fusion
    model.fusion = Ablated(inner, changes)
    try:
        yield
    finally:
        model.fusion = inner


def zeros(x_KHWD: Tensor) -> Tensor:
    """Nothing was seen."""
    return torch.zeros_like(x_KHWD)


def replaced(mean_HWD: Tensor) -> Change:
    """Every view becomes this one: with the mean map, what the expert says of any image and so of none."""

    def change(x_KHWD: Tensor) -> Tensor:
        return mean_HWD.to(x_KHWD).expand_as(x_KHWD)

    return change


@torch.inference_mode()
def mean_features(model: MLLM, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """x_HWD of every encoder, place by place the mean over all views. Raises ConfigError without any."""
    device = next(model.parameters()).device
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        if batch.views is None:
            continue
        count += len(batch.views)
        for name, x_KHWD in model.encode(batch.to(device)).items():
            sums[name] = sums.get(name, 0) + x_KHWD.double().sum(0)
    if not count:
        raise ConfigError("no sample has an image: there are no features to take the mean of")
    return {name: (total / count).float() for name, total in sums.items()}


class OtherPictures(Processor):
    """A processor through which some encoders look at another sample's images; all else stays as it is."""

    def __init__(
        self,
        config: MLLMConfig,
        names: Iterable[str],
        pictures: Mapping[str, tuple[Picture, ...]],
        *,
        features: Mapping[str, FeatureLookup] | None = None,
    ) -> None:
        super().__init__(config, features=features)
        self.names, self.pictures = frozenset(names), pictures

    def through(self, features: Mapping[str, FeatureLookup]) -> OtherPictures:
        return OtherPictures(self.config, self.names, self.pictures, features={**self.features, **features})

    def images_of(self, sample: Sample) -> tuple[Picture, ...]:
        return (*sample.images, *(self.pictures[sample.id] if sample.images else ()))

    def __call__(self, sample: Sample, *, answer: bool = True) -> Example:
        """As ``Processor``. An image with fewer views than the one it stands for shows them in turn."""
        example = super().__call__(sample, answer=answer)
        if not sample.images:
            return example
        for own, other in zip((example.pixels, example.features), self.see(self.pictures[sample.id]), strict=True):
            for name in self.names & set(own):
                own[name] = other[name][torch.arange(len(own[name])) % len(other[name])]
        return example


def without(model: MLLM, config: MLLMConfig, names: Iterable[str]) -> tuple[MLLM, MLLMConfig]:
    """The same model with fewer encoders: nothing of theirs runs, and tokens of their own leave the sequence.

    It shares all weights with ``model``. Raises ConfigError where the fusion or the projector cannot do without them
    as they were trained (channel concatenation, for one: there zeros do the same).
    """
    gone = sorted(set(names))
    with _telling(config, gone):
        smaller = _without(config, gone)
        small = _joining(smaller)
        for name in _JOINING:
            _fill(getattr(small, name), getattr(model, name), name)
    for name in smaller.encoders:
        small.encoders[name] = model.encoders[name]
    small.language = model.language
    small.seen_whole = {name: size for name, size in model.seen_whole.items() if name in smaller.encoders}
    return small.eval(), smaller


def check_without(config: MLLMConfig, names: Iterable[str]) -> None:
    """Whether a model of this design will do without encoders once it is trained. Raises ConfigError as ``without``."""
    gone = sorted(set(names))
    with _telling(config, gone), torch.device("meta"):
        small, whole = _joining(_without(config, gone)), _joining(config)
        for name in _JOINING:
            _check_shapes(getattr(small, name), getattr(whole, name), name)


@contextlib.contextmanager
def _telling(config: MLLMConfig, gone: Sequence[str]) -> Iterator[None]:
    """Says of a ConfigError what could not be removed and what to do instead."""
    try:
        yield
    except ConfigError as error:
        kind = config.fusion.kind_name()
        raise ConfigError(
            f"{kind} cannot do without {', '.join(gone)} as it was trained ({error}); use zero, mean or shuffle"
        ) from None


def _without(config: MLLMConfig, gone: Sequence[str]) -> MLLMConfig:
    kept = {name: encoder for name, encoder in config.encoders.items() if name not in gone}
    if not kept:
        raise ConfigError("no encoder would be left")
    return MLLMConfig.parse(
        config.to_dict() | {"encoders": {name: e.to_dict() for name, e in kept.items()}, "fusion": _fixed(config, kept)}
    )


_JOINING = ("fusion", "projector", "injection")
"""Parts whose shapes depend on the encoders together."""


def _joining(config: MLLMConfig) -> MLLM:
    """A model of these parts alone."""
    fused, grid, shape = config.fused_grid(), config.visual_grid(), config.language.shape()
    assert fused is not None
    assert grid is not None
    model = MLLM()
    model.fusion = config.fusion.build(config.grids(), config.fusion_context())
    model.projector = config.projector.build(fused, shape.width)
    model.injection = config.injection.build(config.injection_context())
    return model


def _fixed(config: MLLMConfig, kept: Iterable[str]) -> dict[str, object]:
    """The fusion with the width that it has now, where that would follow from the encoders."""
    data, fusion = config.fusion.to_dict(), config.fusion
    if isinstance(fusion, GridFusionConfig):
        data["resample_for"] = {name: own for name, own in data["resample_for"].items() if name in kept}
        widths = {grid.dim for grid in fusion.aligned(config.grids()).values()}
        if data.get("dim", 0) is None and len(widths) > 1:
            data["dim"] = fusion.out(config.grids()).dim
    return data


def _check_shapes(part: nn.Module, source: nn.Module, name: str) -> None:
    """Raises ConfigError where ``source`` has no tensor of the shape that the part needs."""
    held = source.state_dict()
    for key, tensor in part.state_dict().items():
        if key not in held or held[key].shape != tensor.shape:
            given = f"{tuple(held[key].shape)}" if key in held else "none"
            raise ConfigError(f"{name}: {key} would be {tuple(tensor.shape)}, the trained one is {given}")


def _fill(part: nn.Module, source: nn.Module, name: str) -> None:
    """Give the part the weights that ``source`` has under the same names. Raises ConfigError where shapes differ."""
    _check_shapes(part, source, name)
    held = source.state_dict()
    reference = next(iter(held.values()), None)
    if reference is not None:
        part.to(reference.device)
    part.load_state_dict({key: held[key] for key in part.state_dict()})
    for parameter in part.parameters():
        parameter.requires_grad_(False)
    part.to(next((t.dtype for t in held.values() if t.is_floating_point()), torch.float32))
