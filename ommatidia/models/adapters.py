"""LoRA on any part through peft: small matrices beside frozen ones, which may be held in 4 or 8 bits (QLoRA).

Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): y = W x + (alpha / rank) B A x, with B = 0 at the start, so that
an adapted part begins as the part itself. In a trunk and in a decoder the whole network is adapted, but not the neck
beside the trunk nor the output matrix; other parts are adapted whole.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Field
from torch import Tensor, nn

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.models.language.language import LanguageModel
from ommatidia.models.quantized import Kind, QuantizedLinear
from ommatidia.models.vision.encoder import VisionEncoder

_NAME, _BASE = "default", ".base_layer"


class LoRA(Config):
    """How a part is adapted. Which of it trains, and at which rate, a stage says: ``{"language": 2e-4}``."""

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The adapter's output is multiplied by alpha / rank (by alpha / sqrt(rank) with ``rslora``)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    """Which matrices: all of them, the ends of modules' names as a list, or a regular expression over whole names."""
    dora: bool = False
    """Learn the size of each output beside its direction (Liu et al. 2024, arXiv 2402.09353)."""
    rslora: bool = False
    """Scale by the rank's root (Kalajdzievski 2023, arXiv 2312.03732), so that large ranks learn as fast."""
    quantize: Literal["none"] | Kind = "none"
    """What adapted matrices are held in: nf4 in 4 bits (Dettmers et al. 2023, arXiv 2305.14314), or int8."""


def adapt(part: nn.Module, adapter: LoRA, *, field: str) -> None:
    """Put fresh adapters into a part, drawn from the ambient generator. The part computes what it did before.

    Raises ConfigError, about ``field``, when a package is missing or the targets match nothing.
    """
    peft = _package("peft", field)
    targets = adapter.targets if isinstance(adapter.targets, str) else list(adapter.targets)
    config = peft.LoraConfig(
        r=adapter.rank, lora_alpha=adapter.alpha, lora_dropout=adapter.dropout, target_modules=targets,
        use_dora=adapter.dora, use_rslora=adapter.rslora,
    )  # fmt: skip
    root = adapted_root(part)
    training = root.training
    try:
        peft.inject_adapter_in_model(config, root, adapter_name=_NAME)
    except ValueError as error:
        raise ConfigError(f"{field}.targets: {str(error).strip().splitlines()[0]}") from None
    root.train(training)
    for layer in _layers(root):
        layer.cast_input_dtype_enabled = False  # autocast chooses; a detour over float32 would be kept for the way back


def adapted_root(part: nn.Module) -> nn.Module:
    """What of a part adapters go into."""
    if isinstance(part, LanguageModel):
        return cast(nn.Module, part.decoder)
    return part.trunk if isinstance(part, VisionEncoder) else part


def base(part: nn.Module) -> set[int]:
    """Ids of the parameters that an adapted part had before: they train only where a pattern names them."""
    root = adapted_root(part)
    if next(_layers(root), None) is None:
        return set()
    return {id(parameter) for name, parameter in root.named_parameters() if not is_adapter(name)}


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter, by its name."""
    return f".{_NAME}" in name and any(step.startswith("lora_") for step in name.split("."))


def quantize(parts: Mapping[str, nn.Module], adapters: Mapping[str, LoRA]) -> None:
    """Hold the adapted matrices of parts as their adapters say. Called once their weights are there."""
    for name, adapter in adapters.items():
        if adapter.quantize != "none" and name in parts:
            for layer in _layers(adapted_root(parts[name])):
                if isinstance(layer.base_layer, nn.Linear):
                    layer.base_layer = QuantizedLinear(layer.base_layer, adapter.quantize)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state under the names that the model has without adapters, theirs beside them, quantised matrices as the
    numbers that they stand for: quantising those again gives the same codes."""
    state = {plain_name(name): tensor for name, tensor in model.state_dict().items()}
    for path, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            name = plain_name(path)
            state[f"{name}.weight"] = module.weight
            if module.bias is not None:
                state[f"{name}.bias"] = module.bias
    return state


def plain_name(name: str) -> str:
    return name.replace(_BASE, "")


def merge(parts: Iterable[nn.Module]) -> None:
    """Add every adapter of parts into the matrix beside it, in place; no adapters are left."""
    for part in parts:
        root = adapted_root(part)
        for path, layer in [(path, module) for path, module in root.named_modules() if _is_layer(module)]:
            if isinstance(layer.base_layer, QuantizedLinear):
                layer.base_layer = layer.base_layer.linear()
            layer.merge()
            parent, _, name = path.rpartition(".")
            setattr(root.get_submodule(parent), name, layer.get_base_layer())


def _layers(root: nn.Module) -> Iterator[Any]:
    return (module for module in root.modules() if _is_layer(module))


def _is_layer(module: nn.Module) -> bool:
    return hasattr(module, "lora_A") and hasattr(module, "base_layer")


def _package(name: str, field: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"{field} needs the package {name!r}: pip install 'ommatidia[lora]'") from None
