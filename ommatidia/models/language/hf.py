"""Any causal language model of transformers: a folder on disk, a hub name when asked, or random from its config."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from pydantic import Field, model_validator

from ommatidia.core.contents import Contents
from ommatidia.core.downloads import HOW, downloads_allowed, hub_as_allowed
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.arguments import check_arguments, check_plain, config_names
from ommatidia.models.language.apart import family_of
from ommatidia.models.language.language import LanguageConfig, LanguageModel, LanguageShape
from ommatidia.models.language.tokenizer import Tokenizer
from ommatidia.models.library_errors import LibraryErrors
from ommatidia.models.vision.weights import check_cached, read_tensors

_WEIGHTS, _INDEX, _ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_config.json"
_SETTINGS = (".json", ".jinja", ".model", ".tiktoken")
_VOCABULARIES = ("vocab.txt", "merges.txt", "vocab.bpe")
"""What tokenizers are read from beside settings."""

_NO_EFFECT = frozenset({
    "auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "use_mamba_kernels",
    "experts_implementation", "_experts_implementation",
})  # fmt: skip
"""Fields of published config.json files that can load something, and here do not."""


class HFLanguage(LanguageConfig):
    """``path`` is a folder in transformers' layout; with ``download`` it may be a hub name.

    What is not in the hub's cache is fetched only where downloads are allowed (``core/downloads.py``).

    ``config`` is the model's own configuration as data (``model_type`` and its fields), where it is to be known without
    reading ``path``: then the model is shaped, priced and built at random without any file.
    """

    kind: Literal["hf"] = "hf"
    path: str
    download: bool = False
    revision: str | None = None
    config: dict[str, Any] | None = None
    random: bool = False
    """Random weights of this architecture: for tests and for pricing."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    pad_token: str | None = Field(None, description="the padding mark, where the tokenizer names none")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.config is not None:
            check_plain(self.config, field="config")
        return self

    def _location(self) -> dict[str, Any]:
        if not self.download and not Path(self.path).is_dir():
            raise ConfigError(
                f"language.path: no folder {self.path!r}; give a local folder, or download: true for a hub name"
            )
        local = not self.download or not downloads_allowed()
        return {"local_files_only": local, "revision": self.revision, "trust_remote_code": False}

    def transformers_config(self) -> Any:
        """The model's own config, read without weights."""
        from transformers import AutoConfig

        if self.config is not None:
            return _configured(json.dumps(self.config))
        location = self._location()
        if Path(self.path).is_dir():
            _check_folder(Path(self.path))
        with self._errors():
            config = AutoConfig.from_pretrained(self.path, **location)
        # A folder may name a kernel of the hub here. How attention is computed is this machine's choice, not its.
        config._attn_implementation = config._experts_implementation = None
        return config

    def _errors(self, what: str = "") -> LibraryErrors:
        """What transformers says of the folder or the hub's repository, as one ConfigError that says ``what`` lacks."""
        hub = self.download and not Path(self.path).is_dir()
        place = f"language.path {self.path!r}" + (f": {what}" if what else "")
        return LibraryErrors(place, how=HOW if hub and not downloads_allowed() else "")

    def shape(self) -> LanguageShape:
        return _shape(self.transformers_config()) if self.config is None else _inline_shape(json.dumps(self.config))

    def family(self) -> str | None:
        known = self.config is not None or not self.download or Path(self.path).is_dir()
        return family_of(self.transformers_config()) if known else None

    def tokenizer(self) -> Tokenizer:
        from transformers import AutoTokenizer

        location = self._location()
        with self._errors("no tokenizer"):
            inner = AutoTokenizer.from_pretrained(self.path, **location)
        pad_id = cast(int, inner.convert_tokens_to_ids(self.pad_token)) if self.pad_token else None
        return Tokenizer(inner, pad_id=pad_id)

    def has_tokenizer(self) -> bool:
        from huggingface_hub import try_to_load_from_cache

        if Path(self.path).is_dir() or not self.download:
            return True  # or the mistake is told where it is read
        return isinstance(try_to_load_from_cache(self.path, "tokenizer_config.json", revision=self.revision), str)

    def build(self, *, pretrained: bool = True) -> LanguageModel:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()  # ours is the console; theirs would speak in quiet and JSON mode
        dtype = getattr(torch, self.dtype)
        config = self.transformers_config()
        _refuse_adapter(Path(self.path))
        with hub_as_allowed(), self._errors():
            if self.random or not pretrained:
                model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
            else:
                model = AutoModelForCausalLM.from_pretrained(
                    self.path, config=config, dtype=dtype, use_safetensors=True, **self._location()
                )
        return LanguageModel(model)

    def check(self) -> None:
        self.transformers_config()
        folder = Path(self.path)
        _refuse_adapter(folder)
        if self.random:
            return
        if not folder.is_dir():
            check_cached(self.path, revision=self.revision)
            return
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ConfigError(f"language.path {self.path!r}: no weights; expected files of tensors in safetensors")
        index = folder / "model.safetensors.index.json"
        listed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else set()
        if missing := sorted(listed - {path.name for path in files}):
            raise ConfigError(
                f"language.path {self.path!r}: {len(missing)} files of {index.name} are missing, "
                f"for example {missing[0]!r}"
            )
        with torch.device("meta"):
            for path in files:
                read_tensors(path)

    def places(self) -> frozenset[str]:
        return frozenset({"path"}) if Path(self.path).is_dir() else frozenset()

    def reads(self) -> Contents:
        """Config, tokenizer and, unless it is random, all weights of a local folder, whole; nothing of the hub."""
        folder = Path(self.path)
        return Contents.of_files(model_files(folder, weights=not self.random)) if folder.is_dir() else Contents()


def _refuse_adapter(folder: Path) -> None:
    """transformers loads an adapter that lies beside a model without being asked, where peft is installed."""
    if (folder / _ADAPTER).is_file():
        raise ConfigError(
            f"language.path {str(folder)!r}: beside the model lies an adapter ({_ADAPTER}), which would be loaded "
            "where peft is installed and nowhere else; merge it into the model and save that, or move it elsewhere"
        )


def model_files(folder: Path, *, weights: bool = True) -> dict[str, Path]:
    """The files of a model folder that transformers reads, by name.

    What else lies there does not count: folders, hidden files, a README, weights in other forms.
    """
    there = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}
    found = {name: path for name, path in there.items() if path.suffix in _SETTINGS or name in _VOCABULARIES}
    if weights:
        found |= {name: folder / name for name in _weight_files(there)}
    return found


def _weight_files(there: Mapping[str, Path]) -> list[str]:
    """As transformers chooses them: the one file, else those of the index, else all."""
    if _WEIGHTS in there:
        return [_WEIGHTS]
    if _INDEX in there:
        try:
            return sorted(set(json.loads(there[_INDEX].read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # told where the weights are loaded; until then every file counts
    return [name for name, path in there.items() if path.suffix == ".safetensors"]


@lru_cache(maxsize=64)
def _configured(text: str) -> Any:
    """A transformers config from its own data. Raises ConfigError with the nearest architecture."""
    from transformers import CONFIG_MAPPING

    data = json.loads(text)
    kind = data.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        raise ConfigError(
            f"language.config.model_type: {unknown('model type of transformers', str(kind), CONFIG_MAPPING)}"
        )
    names = config_names(CONFIG_MAPPING[kind])
    check_arguments(data, names, field="language.config", of=f"the model type {kind}")
    with LibraryErrors("language.config"):
        return CONFIG_MAPPING[kind](**data)


@lru_cache(maxsize=64)
def _inline_shape(text: str) -> LanguageShape:
    """The shape of a config from its own data, which a model asks for many times."""
    return _shape(_configured(text))


def _shape(config: Any) -> LanguageShape:
    return _counted(type(config).from_dict, json.dumps(config.to_diff_dict(), default=str, sort_keys=True))


@lru_cache(maxsize=64)
def _counted(read: Callable[[dict[str, Any]], Any], text: str) -> LanguageShape:
    """The shape with its exact number of parameters, counted on the meta device, where tensors take no memory."""
    from transformers import AutoModelForCausalLM

    config = read(json.loads(text))
    with LibraryErrors("language: the config"), torch.device("meta"), hub_as_allowed():
        shape = shape_of(config)
        held = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    return replace(shape, extra=held - shape.parameters)


_NUMBERS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Fields of a config without which a decoder has no shape."""


def shape_of(config: Any) -> LanguageShape:
    """The shape of any Llama-like transformers config; fields that a family lacks take the usual default.

    Raises ConfigError for a decoder without attention heads, or whose layers have unlike sizes.
    """
    text = config.get_text_config()
    if wrong := [name for name in _NUMBERS if not isinstance(getattr(text, name, None), int)]:
        raise ConfigError(
            f"language: {text.model_type} states no one number as {', '.join(wrong)}, so it has no shape here; "
            "expected a decoder of equal attention blocks"
        )
    heads = text.num_attention_heads
    if isinstance(getattr(text, "intermediate_size", None), list | tuple):
        raise ConfigError(f"language: the blocks of {text.model_type} have unlike sizes; expected equal ones")
    ffn = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * text.hidden_size
    activation = str(getattr(text, "hidden_act", getattr(text, "activation_function", "silu")))
    return LanguageShape(
        width=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        ffn=ffn,
        vocab=text.vocab_size,
        context=getattr(text, "max_position_embeddings", 2048),
        gated=activation in ("silu", "swish", "gelu_pytorch_tanh"),
        tied=bool(getattr(text, "tie_word_embeddings", False)),
    )


def _check_folder(folder: Path) -> None:
    """Raises ConfigError for settings of a folder's config.json that would fetch or run something."""
    path = folder / "config.json"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"language.path: {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"language.path: {path}: not valid JSON") from None
    if not isinstance(held, dict):
        raise ConfigError(f"language.path: {path}: {type(held).__name__}; expected an object")
    if held.get("quantization_config"):
        raise ConfigError(
            f"language.path: {path} holds quantization_config: the libraries that read such weights may fetch kernels; "
            "save the model dequantised first"
        )
    # transformers runs no code of auto_map unless told to, and the choice of an attention kernel is not the folder's.
    kept = {name: value for name, value in held.items() if name not in _NO_EFFECT}
    check_plain(kept, field=f"language.path: {path}")
