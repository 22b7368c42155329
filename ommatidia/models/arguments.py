"""Arguments that a config passes on to timm, transformers or diffusers: those that shape an architecture, no others.

Such arguments may come from a recipe file or a model folder of somebody else, and the constructors of these libraries
also take options that fetch an address, write to a folder, or run code that a repository holds.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from ommatidia.core.errors import ConfigError, unknown

_LOADING = re.compile(
    r"_*("
    r"pretrained|pretrained_(cfg|config|model|name|weights|path|strict|filter|custom|backbone).*|use_pretrained.*"
    r"|backbone|backbone_(kwargs|path|name)|use_timm.*|cache_dir|checkpoint|checkpoint_(path|file|url)|file|url|hf_hub.*"
    r"|auto_map|trust_remote_code|quantization|quantization_config|.*(attn|attention|experts)_implementation.*"
    r"|custom_(generate|pipelines?|code)|use_.*kernels?|hub_kernels?|kernel_config|local_files_only|force_download|revision"
    r"|code_revision|subfolder|token|proxies|variant|use_safetensors|config_file|weights_name|state_dict|gguf_file"
    r"|adapter_kwargs|device_map|low_cpu_mem_usage|extra_files|extra_config_files"
    r")"
)
_SET_HERE = frozenset({"self", "cls", "kwargs", "args", "device", "dtype", "cfg", "config"})
_DEEPEST = 8
_ELSEWHERE = ("timm_backbone", "timm_wrapper")
"""Model types whose weights or shapes come from a name of the hub."""

_OF_ANY_CONFIG = frozenset({
    "model_type", "torch_dtype", "dtype", "_name_or_path", "name_or_path", "_commit_hash", "tie_word_embeddings",
    "is_decoder", "add_cross_attention", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id",
    "decoder_start_token_id", "num_labels", "use_cache", "output_attentions", "torchscript", "pruned_heads",
    "use_bfloat16", "tf_legacy_loss", "prefix", "task_specific_params", "finetuning_task",
    "cross_attention_hidden_size", "tie_encoder_decoder", "rope_theta", "rope_scaling", "partial_rotary_factor",
    "head_dim",
})  # fmt: skip
"""Fields that any config.json of transformers may hold, of older versions too; none of them loads anything."""


def check_arguments(given: Mapping[str, Any], allowed: Iterable[str], *, field: str, of: str) -> None:
    """Raises ConfigError for a name that does not shape ``of``, and for a value that is no plain data.

    Args:
        given: what the config says.
        allowed: names that ``of`` takes; those that load, fetch or run something are refused even so.
        field: where ``given`` stands, for messages.
        of: what takes the arguments, for messages.
    """
    shaping = {name for name in allowed if name not in _SET_HERE and not is_loading(name)}
    for name, value in given.items():
        if is_loading(name):
            raise ConfigError(
                f"{field}.{name}: refused, since it can fetch, write or run something; {field} holds what shapes {of}, "
                "and weights come from the field weights"
            )
        if name not in shaping:
            raise ConfigError(f"{field}: {unknown(f'argument of {of}', name, shaping)}")
        check_plain(value, field=f"{field}.{name}")


def check_plain(value: Any, *, field: str, depth: int = 0) -> None:
    """Raises ConfigError unless a value is plain data at every depth, with no name in it that loads something."""
    if depth > _DEEPEST:
        raise ConfigError(f"{field}: nested more than {_DEEPEST} deep")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str | int):
                raise ConfigError(f"{field}: the key {name!r} is no text")
            if is_loading(str(name)):
                raise ConfigError(f"{field}.{name}: refused, since it can fetch, write or run something")
            if name == "model_type" and inner in _ELSEWHERE:
                raise ConfigError(
                    f"{field}.model_type: {inner!r} takes its shape from the hub; use an encoder of kind timm"
                )
            check_plain(inner, field=f"{field}.{name}", depth=depth + 1)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            check_plain(inner, field=f"{field}.{position}", depth=depth + 1)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ConfigError(f"{field}: {type(value).__name__}; expected a number, text, true, false, null, or a list")


def is_loading(name: str) -> bool:
    """Whether an argument of this name may fetch, write or run something rather than shape an architecture."""
    return _LOADING.fullmatch(name.lower()) is not None


@lru_cache(maxsize=64)
def timm_names(entry: Callable[..., Any]) -> frozenset[str]:
    """Names that the models of a timm entry point's file take: constructor arguments and fields of their configs."""
    from torch import nn

    found: set[str] = set()
    for value in vars(sys.modules[entry.__module__]).values():
        if not isinstance(value, type):
            continue
        if issubclass(value, nn.Module) and hasattr(value, "forward_intermediates"):
            found |= inspect.signature(value).parameters.keys()
        elif dataclasses.is_dataclass(value):
            found |= {one.name for one in dataclasses.fields(value)}
    return frozenset(found)


@lru_cache(maxsize=64)
def config_names(config_class: type) -> frozenset[str]:
    """Names that a configuration of transformers takes, its older spellings included."""
    from transformers import GenerationConfig

    older = frozenset(getattr(config_class, "attribute_map", {}))
    decoding = frozenset(GenerationConfig()._get_default_generation_params())  # these it takes, and drops
    return frozenset(inspect.signature(config_class).parameters) | older | decoding | _OF_ANY_CONFIG
