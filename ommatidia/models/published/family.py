"""What a family of published checkpoints must tell: whether a config is one of its own, and what it becomes here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ommatidia.models.published.checkpoint import Checkpoint
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


_LLAMA_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
    "attention_bias", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range",
    "head_dim", "sliding_window",
)  # fmt: skip


def decoder(config: Mapping[str, Any], checkpoint: Checkpoint, embeddings: str, *, kind: str) -> dict[str, Any]:
    """The language model's own fields of a config that mixes them with others; rows of ``embeddings`` win over it."""
    data = {name: config[name] for name in _LLAMA_FIELDS if config.get(name) is not None}
    return {"model_type": kind, **data, "vocab_size": checkpoint.side(embeddings)}


DECODER_RULES = (
    Rule(r"(lm_head\..*)", r"language.decoder.\1"),
    Rule(r"model\.((?:embed_tokens|layers|norm)\..*rotary_emb\.inv_freq)", None, "recomputed rotary frequencies"),
    Rule(r"(model\.(?:embed_tokens|layers|norm)\..*)", r"language.decoder.\1"),
)
"""Names of a Llama-like decoder, as its own checkpoint has them."""
