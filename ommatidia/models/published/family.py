"""What a family of published checkpoints must tell: whether a config is one of its own, and what it becomes here."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.published.checkpoint import Checkpoint
from ommatidia.models.published.fields import DECODER, PRETRAINED, Fields
from ommatidia.models.published.names import Rule


@dataclass(frozen=True, slots=True)
class Reading:
    """A published checkpoint in our terms."""

    model: dict[str, Any]
    """The MLLMConfig as plain data; ``language`` is filled in by the importer."""
    language: dict[str, Any]
    """The language model's transformers config as plain data, ``model_type`` included."""
    rules: Sequence[Rule]
    elsewhere: frozenset[str] = frozenset()
    """Encoders whose weights the checkpoint does not hold: frozen ones that its own code fetches by name."""
    rows: int | None = None
    """Rows of the embeddings to keep, where an export of ours has added one; None: all."""
    strangers: Mapping[str, str] = field(default_factory=dict)
    """Encoders that are not known here, by our name: what the checkpoint calls them. Whoever imports gives them."""


class Family(ABC):
    """One published architecture."""

    name: str

    @abstractmethod
    def owns(self, config: Mapping[str, Any]) -> bool:
        """Whether a config is of this family, by its fields alone."""

    @abstractmethod
    def read(self, checkpoint: Checkpoint) -> Reading:
        """Raises ConfigError for settings that this family's code could not run either."""


def decoder(config: Mapping[str, Any], checkpoint: Checkpoint, embeddings: str, *, kind: str) -> dict[str, Any]:
    """The language model's own fields of a config that mixes them with others; rows of ``embeddings`` win over it."""
    data = {name: config[name] for name in config if name in DECODER}
    data = {"model_type": kind, **data, "vocab_size": checkpoint.side(embeddings)}
    return tied_or_not(data, checkpoint, embeddings, stated=bool(config.get("tie_word_embeddings")))


def tied_or_not(data: dict[str, Any], checkpoint: Checkpoint, embeddings: str, *, stated: bool) -> dict[str, Any]:
    """The language model's config with whether its output matrix is its embeddings, as the tensors have it.

    A checkpoint that holds an output matrix of its own uses it, whatever its config says.
    """
    heads = [name for name in checkpoint.shards if name.endswith("lm_head.weight")]
    tied = stated and (not heads or checkpoint.equal(heads[0], embeddings))
    return {**data, "tie_word_embeddings": tied}


@lru_cache(maxsize=32)
def text_fields(kind: str) -> Fields:
    """The settings of a decoder of transformers: those of its config class, which runs them itself."""
    from transformers import CONFIG_MAPPING

    if kind not in CONFIG_MAPPING:
        raise ConfigError(f"text_config: {unknown('model type of transformers', kind, CONFIG_MAPPING)}")
    own = frozenset(inspect.signature(CONFIG_MAPPING[kind]).parameters) - PRETRAINED.keys()
    legacy = frozenset({"rope_theta", "rope_scaling", "head_dim"})  # read, though no field of every class
    return Fields("text_config", own | legacy, PRETRAINED, {"quantization_config": (None,)})


DECODER_RULES = (
    Rule(r"(lm_head\..*)", r"language.decoder.\1"),
    Rule(r"model\.((?:embed_tokens|layers|norm)\..*rotary_emb\.inv_freq)", None, "recomputed rotary frequencies"),
    Rule(r"(model\.(?:embed_tokens|layers|norm)\..*)", r"language.decoder.\1"),
)
"""Names of a Llama-like decoder, as its own checkpoint has them."""
