"""Encoders of the timm library: any of its models by exact name, with the layers that give the features.

Shapes: B batch, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ommatidia.core.downloads import HOW, downloads_allowed, hub_as_allowed
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.arguments import check_arguments, timm_names
from ommatidia.models.between import Change, behind
from ommatidia.models.fusion.resample import Auto, Bilinear
from ommatidia.models.vision.encoder import EncoderConfig, ImageEncoderConfig
from ommatidia.models.vision.preprocess import ImageSize, Interpolation, Preprocess
from ommatidia.models.vision.weights import (
    FileWeights,
    HubWeights,
    PackageWeights,
    RandomWeights,
    StateDict,
    check_cached,
    match_by_order,
    not_fetched,
)

_LAYER_SCALE = re.compile(r"(stages\.\d+\.blocks\.\d+)\.weight")
Features = Literal["last"] | int | Annotated[tuple[int, ...], Field(min_length=1)]


class TimmEncoder(ImageEncoderConfig):
    """A timm model cut off behind the chosen features; nothing above them is kept or run.

    ``features``: ``last`` is the model's final map, with its final norm; a number is the raw output of that block
    (plain transformers) or stage (hierarchical models), counted from 0, or from the end if negative; several are joined
    along the channels on the grid of the first. Class and register tokens are dropped.
    """

    kind: Literal["timm"] = "timm"
    model: str
    """Exact name in timm, with the tag of the weights where they come from the hub: ``samvit_large_patch16.sa1b``."""
    features: Features = "last"
    common_grid: ImageSize | None = None
    """(rows, columns) on which several layers meet, resampled bilinearly; None: on the grid of the first."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the model's constructor that shape it, such as ``depth``; none that loads, fetches or runs."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _pretrained_cfg(self.model)
        if self.args:
            check_arguments(self.args, _names(self.model), field="args", of=self.model)
        if isinstance(self.weights, HubWeights) and self.weights.prefix:
            raise ConfigError(f"weights.prefix {self.weights.prefix!r}: timm loads whole repositories; use kind file")
        if isinstance(self.weights, FileWeights | PackageWeights | RandomWeights | HubWeights):
            return self
        raise ConfigError(
            f"weights: a timm encoder reads random, file, package or hub, not {self.weights.to_dict()['kind']!r}"
        )

    def preprocess(self) -> Preprocess:
        cfg = _pretrained_cfg(self.model)
        interpolation: Interpolation = "bilinear" if cfg.interpolation == "bilinear" else "bicubic"
        return self._prepared(mean=tuple(cfg.mean), std=tuple(cfg.std), interpolation=interpolation)

    def trunk(self, *, pretrained: bool) -> nn.Module:
        model = self._loaded() if pretrained else self._create(self.args)
        embedding = getattr(model, "patch_embed", None) or getattr(model, "embeds", None)
        patch = getattr(embedding, "patch_size", None)
        native = tuple(_pretrained_cfg(self.model).input_size[1:])
        # A model may be trained with a rest at the border (SigLIP: 384 = 27 * 14 + 6); elsewhere it is a mistake.
        if (
            isinstance(patch, tuple)
            and self.image_size != native
            and any(s % p for s, p in zip(self.image_size, patch))
        ):
            size, of = ("x".join(str(side) for side in pair) for pair in (self.image_size, patch))
            raise ConfigError(f"image_size {size} is not divisible by the patch size {of} of {self.model}")
        return TimmTrunk(model, self.features, self.common_grid, name=self.model)

    def check(self) -> None:
        if isinstance(self.weights, HubWeights) and not self.weights.id:
            check_cached(_pretrained_cfg(self.model).hf_hub_id or "")
        super().check()

    def published(self, state: StateDict) -> StateDict:
        renamed = {}
        for name, tensor in state.items():
            # Some libraries rename every parameter called gamma; ConvNeXt's layer scale is then published as weight.
            scale = _LAYER_SCALE.fullmatch(name)
            if not name.startswith("head."):
                renamed[f"model.{scale[1]}.gamma" if scale else f"model.{name}"] = tensor
        return renamed

    def fitted(self, state: StateDict, made_for: EncoderConfig) -> StateDict:
        """timm resamples position tables when it loads weights (bicubic, antialiased), and so they are here."""
        from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc

        # Behind ``common_grid`` a trunk's grid is not that of its tokens.
        trunks = (one.model_copy(update={"common_grid": None}) for one in (self, made_for))
        new, old = ((grid.height, grid.width) for grid in (trunk.trunk_grid() for trunk in trunks))
        fit = dict(state)
        for name, table in state.items():
            if new == old or name.rpartition(".")[2] != "pos_embed":
                continue
            if table.ndim == 4:
                fit[name] = resample_abs_pos_embed_nhwc(table, list(new))
            else:
                prefix = table.shape[1] - old[0] * old[1]
                fit[name] = resample_abs_pos_embed(table, list(new), list(old), num_prefix_tokens=prefix)
        return fit

    def _create(self, args: dict[str, Any], **options: Any) -> nn.Module:
        import timm

        if _pretrained_cfg(self.model).fixed_input_size:
            args = {"img_size": self.image_size, **args}
        try:
            return timm.create_model(self.model, **args, **options)
        except (TypeError, AssertionError) as error:
            raise ConfigError(f"timm model {self.model!r} does not take these arguments or size: {error}") from None
        except RuntimeError as error:
            raise ConfigError(f"weights: they do not fit {self.model!r}: {_first_lines(error)}") from None

    def _loaded(self) -> nn.Module:
        if isinstance(self.weights, RandomWeights):
            return self._create(self.args)
        if isinstance(self.weights, HubWeights):
            overlay = {"hf_hub_id": self.weights.id} if self.weights.id else {}
            if not downloads_allowed() and not (self.weights.id or _pretrained_cfg(self.model).hf_hub_id):
                raise ConfigError(f"weights: {self.model!r} is at an address outside the hub; {HOW}")
            try:
                with hub_as_allowed():
                    return self._create(self.args, pretrained=True, pretrained_cfg_overlay=overlay)
            except OSError as error:
                raise not_fetched(repr(self.model), error) from None
        state = self.weights.tensors()
        if isinstance(self.weights, FileWeights | PackageWeights) and self.weights.match == "order":
            with torch.device("meta"):
                state = match_by_order(state, self._create(self.args).state_dict())
        return self._create_from(state)

    def _create_from(self, state: StateDict) -> nn.Module:
        # timm's own path for local weights: it renames old layouts and resamples position embeddings, and is strict.
        overlay: dict[str, Any] = {"state_dict": state}
        args = dict(self.args)
        classifier = _pretrained_cfg(self.model).classifier
        heads = [classifier] if isinstance(classifier, str) else list(classifier or ())
        if not any(f"{head}.weight" in state for head in heads):
            args["num_classes"] = overlay["num_classes"] = overlay["label_offset"] = 0
        return self._create(args, pretrained=True, pretrained_cfg_overlay=overlay)

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            model="vit_tiny_patch16_224", image_size=(32, 48), args={"depth": 2, "embed_dim": 32, "num_heads": 2}
        )


class TimmTrunk(nn.Module):
    """Runs a timm model up to the last chosen layer."""

    def __init__(self, model: Any, features: Features, common_grid: tuple[int, int] | None, *, name: str) -> None:
        super().__init__()
        self.common_grid = common_grid
        if not hasattr(model, "forward_intermediates"):
            raise ConfigError(f"timm model {name!r} offers no intermediate features")
        self.norm = features == "last"
        wanted = [-1] if features == "last" else [features] if isinstance(features, int) else list(features)
        count = len(model.feature_info)
        for index in wanted:
            if not -count <= index < count:
                raise ConfigError(f"features: {index} is out of range; {name!r} has {count} layers, 0 to {count - 1}")
        self.indices = [index % count for index in wanted]
        model.prune_intermediate_layers(sorted(set(self.indices)), prune_norm=not self.norm)
        self.model: Any = model

    @property
    def depth(self) -> int:
        """Blocks of a plain transformer that are run; 0 for other models."""
        patch = getattr(getattr(self.model, "patch_embed", None), "patch_size", None)
        count = len(self.model.blocks) if patch and hasattr(self.model, "blocks") else 0
        return count if count == max(self.indices) + 1 else 0

    def forward(self, pixels_BCHW: Tensor, between: Mapping[int, Change] | None = None) -> Tensor:
        indices = sorted(set(self.indices))
        steering: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if between:
            size = (side // patch for side, patch in zip(pixels_BCHW.shape[2:], self.model.patch_embed.patch_size))
            steering = behind(self.model.blocks, on_grid(between, *size))
        with steering:
            maps = self.model.forward_intermediates(
                pixels_BCHW.contiguous(memory_format=torch.channels_last),
                indices=indices, norm=self.norm, stop_early=True, output_fmt="NCHW", intermediates_only=True,
            )  # fmt: skip
        maps_BHWD = [maps[indices.index(i)].permute(0, 2, 3, 1) for i in self.indices]
        if self.common_grid is None:
            return join(maps_BHWD)
        return torch.cat([Bilinear()(x.float(), *self.common_grid).to(x.dtype) for x in maps_BHWD], -1)


def on_grid(between: Mapping[int, Change], height: int, width: int) -> dict[int, Change]:
    """Changes of x_BHWD for blocks that pass on x_BND; class and register tokens stay as they are."""

    def of_tokens(change: Change, x_BND: Tensor) -> Tensor:
        if x_BND.ndim == 4:  # windowed transformers keep their grid
            return change(x_BND)
        prefix = x_BND.shape[1] - height * width
        if prefix < 0:
            raise ValueError(f"{x_BND.shape[1]} tokens make no grid of {height}x{width}")
        changed_BHWD = change(x_BND[:, prefix:].unflatten(1, (height, width)))
        return torch.cat([x_BND[:, :prefix], changed_BHWD.flatten(1, 2)], 1)

    return {index: partial(of_tokens, change) for index, change in between.items()}


def join(maps_BHWD: list[Tensor]) -> Tensor:
    """Maps side by side in the channels on the grid of the first: finer ones averaged, coarser ones interpolated."""
    first, *others = maps_BHWD
    height, width = first.shape[1:3]
    return torch.cat([first, *(Auto()(x, height, width) for x in others)], -1) if others else first


@lru_cache(maxsize=64)
def _pretrained_cfg(model: str) -> Any:
    """timm's record of a model. Raises ConfigError with the nearest name when timm does not know it."""
    import timm
    from timm.models import get_pretrained_cfg

    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        raise ConfigError(unknown("timm model", model, timm.list_models()))
    cfg = get_pretrained_cfg(model) if not tag or model in timm.list_pretrained(f"{name}.*") else None
    if cfg is None:
        raise ConfigError(unknown(f"weights tag of {name}", model, timm.list_pretrained(f"{name}.*")))
    return cfg


def _names(model: str) -> frozenset[str]:
    """What the constructor of a timm model takes."""
    import timm

    return timm_names(timm.model_entrypoint(model))


def _first_lines(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).strip().splitlines()[:3])
