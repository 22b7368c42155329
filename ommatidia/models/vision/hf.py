"""Vision models of the transformers library: any architecture that turns pixels into patch tokens or a feature map.

Shapes: B batch, C colour channels, H rows, W columns, N tokens, D feature channels.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ommatidia.core.downloads import downloads_allowed, hub_as_allowed
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.arguments import check_arguments, check_plain, config_names
from ommatidia.models.between import Change, behind
from ommatidia.models.library_errors import LibraryErrors
from ommatidia.models.vision.encoder import ImageEncoderConfig, shape_and_cost
from ommatidia.models.vision.preprocess import HALF, Preprocess
from ommatidia.models.vision.timm import Features, join, on_grid
from ommatidia.models.vision.weights import FolderWeights, HubWeights, RandomWeights, not_fetched

_PIL_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


class HFEncoder(ImageEncoderConfig):
    """A transformers vision model: ``CLIPVisionModel``, ``SiglipVisionModel``, ``Dinov2Model``, ``ViTModel``, ...

    ``config`` is what differs from the architecture's default configuration. With ``folder`` weights it is read from
    the folder once, with the normalisation, so that this value stays complete when the folder is gone.
    ``features``: ``last`` is the model's last hidden state; a number is the raw output of that block, from 0, or from
    the end if negative (-2 is LLaVA's choice); several are joined along the channels. Class and register tokens are
    dropped; position embeddings are interpolated to ``image_size``.
    """

    kind: Literal["hf"] = "hf"
    architecture: str
    config: dict[str, Any] = Field(default_factory=dict)
    features: Features = "last"

    @model_validator(mode="before")
    @classmethod
    def _from_folder(cls, data: Any) -> Any:
        weights = data.get("weights") if isinstance(data, dict) else None
        if isinstance(weights, dict) and weights.get("kind") == "folder":
            weights = FolderWeights.parse(weights)
        if not isinstance(weights, FolderWeights) or data.get("config") or "architecture" not in data:
            return data
        if weights.prefix:
            raise ConfigError(f"config: state it; config.json is that of the model around {weights.prefix!r}")
        weights.files()
        config_class = _architecture(data["architecture"]).config_class
        with LibraryErrors(f"{weights.path / 'config.json'}"):
            held = json.loads((weights.path / "config.json").read_text(encoding="utf-8"))
            check_plain(held, field=f"{weights.path / 'config.json'}")
            config = config_class.from_pretrained(str(weights.path), local_files_only=True)
        return {"config": json.loads(json.dumps(config.to_diff_dict(), default=str)), **_normalisation(weights), **data}

    @model_validator(mode="after")
    def _checked(self) -> Self:
        config_class = _architecture(self.architecture).config_class
        if self.config:
            check_arguments(
                self.config, config_names(config_class), field="config", of=f"the architecture {self.architecture}"
            )
            self._config()
        if not isinstance(self.weights, RandomWeights | FolderWeights | HubWeights):
            raise ConfigError(
                f"weights: an hf encoder reads random, folder or hub, not {self.weights.to_dict()['kind']!r}"
            )
        if (self.mean is None or self.std is None) and not isinstance(self.weights, RandomWeights):
            raise ConfigError("mean and std: state the normalisation that these weights were trained with")
        if isinstance(self.weights, HubWeights) and not self.weights.id:
            raise ConfigError("weights.id: which repository of the hub? For example openai/clip-vit-large-patch14-336")
        return self

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=HALF, std=HALF)

    def _config(self) -> Any:
        """The library's own config. Raises ConfigError with the field that it refuses."""
        with LibraryErrors(f"config: {self.architecture}"):
            return _architecture(self.architecture).config_class(**self.config)

    def trunk(self, *, pretrained: bool) -> nn.Module:
        architecture, config = _architecture(self.architecture), self._config()
        config._attn_implementation = "sdpa" if getattr(architecture, "_supports_sdpa", False) else "eager"
        if pretrained and not isinstance(self.weights, RandomWeights):
            model = self._loaded(architecture, config)
        else:
            model = architecture(config)
        return HFTrunk(model, self.features, name=self.architecture)

    def _loaded(self, architecture: Any, config: Any) -> nn.Module:
        local = isinstance(self.weights, FolderWeights)
        source: dict[str, Any] = {}
        if isinstance(self.weights, FolderWeights):
            self.weights.files()
            source = {"pretrained_model_name_or_path": str(self.weights.path)}
        if isinstance(self.weights, HubWeights):
            source = {"pretrained_model_name_or_path": self.weights.id, "revision": self.weights.revision}
        if isinstance(self.weights, FolderWeights | HubWeights) and self.weights.prefix:
            source["key_mapping"] = {f"^{re.escape(self.weights.prefix)}": ""}
        try:
            with _quiet_transformers(), hub_as_allowed():
                model, info = architecture.from_pretrained(
                    **source, config=config, local_files_only=local or not downloads_allowed(), dtype=torch.float32,
                    output_loading_info=True,
                )  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(self.weights, HubWeights) and isinstance(error, OSError):
                raise not_fetched(self.weights.id, error) from None
            raise ConfigError(f"weights: {self.architecture}: {str(error).strip().splitlines()[0]}") from None
        # A head for pooling, say, is often missing from a file and has no part in the features.
        unused = shape_and_cost(self).unused
        if missing := sorted(name for name in info["missing_keys"] if f"model.{name}" not in unused):
            raise ConfigError(
                f"weights: {self.architecture}: {len(missing)} tensors are missing, for example {missing[0]!r}"
            )
        return model

    @classmethod
    def tiny(cls) -> Self:
        small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
        return cls(
            architecture="CLIPVisionModel", config={**small, "image_size": 32, "patch_size": 8},
            image_size=(32, 48), features=-2,
        )  # fmt: skip


class HFTrunk(nn.Module):
    """Runs a transformers vision model up to the last chosen block and gives its patch tokens as a grid."""

    def __init__(self, model: nn.Module, features: Features, *, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name
        config: Any = model.config
        self.patch = _pair(getattr(config, "patch_size", None))
        self.native = _pair(getattr(config, "image_size", None))
        self.width = getattr(config, "hidden_size", None)
        self.interpolates = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self.path = _path_of_blocks(model)
        self.indices: list[int] = []
        if features != "last":
            blocks = self._blocks
            wanted = [features] if isinstance(features, int) else list(features)
            for index in wanted:
                if not -len(blocks) <= index < len(blocks):
                    raise ConfigError(f"features: {index} is out of range; {name} has {len(blocks)} blocks")
            self.indices = [index % len(blocks) for index in wanted]
            kept = nn.ModuleList(blocks[: max(self.indices) + 1])
            parent, _, last = str(self.path).rpartition(".")
            model.get_submodule(parent).register_module(last, kept)

    @property
    def _blocks(self) -> nn.ModuleList:
        if self.path is None:
            raise ConfigError(f"features: {self.name} has no list of blocks to choose from; use last")
        return cast(nn.ModuleList, self.model.get_submodule(self.path))

    @property
    def depth(self) -> int:
        """Blocks that are run; 0 where the model keeps them in no list or its tokens have no grid."""
        return len(self._blocks) if self.patch and self.path is not None else 0

    def forward(self, pixels_BCHW: Tensor, between: Mapping[int, Change] | None = None) -> Tensor:
        if not between or not self.patch:
            return self._run(pixels_BCHW)
        size = (side // patch for side, patch in zip(pixels_BCHW.shape[2:], self.patch, strict=True))
        with behind(self._blocks, on_grid(between, *size)):
            return self._run(pixels_BCHW)

    def _run(self, pixels_BCHW: Tensor) -> Tensor:
        options = {"interpolate_pos_encoding": True} if self.interpolates else {}
        if not self.indices:
            return self._as_grid(self.model(pixel_values=pixels_BCHW, **options).last_hidden_state, pixels_BCHW)
        blocks, outputs = self._blocks, {}

        def keep(index: int) -> Any:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                outputs[index] = output[0] if isinstance(output, tuple) else output

            return blocks[index].register_forward_hook(hook)

        handles = [keep(index) for index in set(self.indices)]
        try:
            self.model(pixel_values=pixels_BCHW, **options)
        except RuntimeError:
            # What stands behind the last kept block was made for the whole model's width. Its result is not used, and
            # once measuring has dropped it, it cannot fail any more.
            if len(outputs) < len(set(self.indices)):
                raise
        finally:
            for handle in handles:
                handle.remove()
        return join([self._as_grid(outputs[index], pixels_BCHW) for index in self.indices])

    def _as_grid(self, x: Tensor, pixels_BCHW: Tensor) -> Tensor:
        if x.ndim == 4:  # a map: channels first, but for the blocks of windowed transformers (SAM)
            return x if x.shape[-1] == self.width else x.permute(0, 2, 3, 1)
        if self.patch is None:
            raise ValueError(f"{self.name} states no patch size, so its tokens have no grid")
        rows, columns = pixels_BCHW.shape[2:]
        height, width = rows // self.patch[0], columns // self.patch[1]
        prefix = x.shape[1] - height * width
        # A model may be trained with a rest at the border (SigLIP: 384 = 27 * 14 + 6); elsewhere it is a mistake.
        fits = rows % self.patch[0] == 0 and columns % self.patch[1] == 0
        if prefix < 0:
            raise ValueError(f"{x.shape[1]} tokens make no grid of {height}x{width}; look for this model in timm")
        if not fits and (rows, columns) != self.native:
            raise ValueError(f"not divisible by the patch size {self.patch[0]}x{self.patch[1]} of {self.name}")
        return x[:, prefix:].unflatten(1, (height, width))


def _pair(value: Any) -> tuple[int, int] | None:
    if value is None or isinstance(value, int):
        return None if value is None else (value, value)
    return int(value[0]), int(value[1])


def _path_of_blocks(model: nn.Module) -> str | None:
    """The path of the transformer blocks: the first list of equal modules."""
    lists = ((path, module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList))
    return next((path for path, blocks in lists if len({type(block) for block in blocks}) == 1), None)


def _architecture(name: str) -> Any:
    """A model class of transformers by its exact name. Raises ConfigError with the nearest name."""
    import transformers

    found = getattr(transformers, name, None) if name.isidentifier() else None
    model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    if model and name.startswith("Timm"):
        raise ConfigError(
            f"architecture {name!r} takes a model of timm by name, from the hub; use an encoder of kind timm"
        )
    if not model or getattr(found, "config_class", None) is None:
        names = [known for known in dir(transformers) if known.endswith("Model") and known[0].isupper()]
        raise ConfigError(unknown("architecture of transformers", name, names))
    return found


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No report of tensors that a vision model rightly leaves aside, such as CLIP's text half."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _normalisation(weights: FolderWeights) -> dict[str, Any]:
    path = weights.path / "preprocessor_config.json"
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{path}: not valid JSON") from None
    found = {"mean": data.get("image_mean"), "std": data.get("image_std")}
    found["interpolation"] = _PIL_FILTERS.get(data.get("resample"))
    return {name: value for name, value in found.items() if value is not None}
