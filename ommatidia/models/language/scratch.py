"""A small Llama-shaped decoder trained from scratch: the proxy language model of searches that must fit on a laptop."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.language.language import LanguageConfig, LanguageModel, LanguageShape
from ommatidia.models.language.tokenizer import Tokenizer

_VOCABULARIES = Path(__file__).parent / "vocabularies"


class ScratchLanguage(LanguageConfig):
    """Pre-norm decoder with rotary positions, SwiGLU and tied embeddings: Llama as transformers implements it."""

    kind: Literal["scratch"] = "scratch"
    width: int = Field(256, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    ffn: int | None = Field(None, ge=8)
    """Width of the feed-forward network; 8/3 of the width, rounded up to a multiple of 32, by default."""
    context: int = Field(1024, ge=16)
    vocabulary: str = "tiny"
    """Name of a tokenizer file shipped with the package; see ``vocabularies()``."""
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> ScratchLanguage:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        if self.vocabulary not in vocabularies():
            raise ConfigError(unknown("vocabulary", self.vocabulary, vocabularies()))
        return self

    def shape(self) -> LanguageShape:
        ffn = self.ffn or -(-8 * self.width // 3 // 32) * 32
        return LanguageShape(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.heads,
            head_dim=self.width // self.heads,
            ffn=ffn,
            vocab=len(self.tokenizer()),
            context=self.context,
            tied=True,
        )

    def reads(self) -> Contents:
        return Contents.of_files({f"{self.vocabulary}.json": _VOCABULARIES / f"{self.vocabulary}.json"})

    def tokenizer(self) -> Tokenizer:
        return _tokenizer(self.vocabulary)

    def build(self, *, pretrained: bool = True) -> LanguageModel:
        """Random weights from torch's current generator; ``pretrained`` makes no difference to a model from scratch."""
        from transformers import LlamaConfig, LlamaForCausalLM

        shape, tokenizer = self.shape(), self.tokenizer()
        settings: dict[str, Any] = {
            "vocab_size": shape.vocab,
            "hidden_size": shape.width,
            "intermediate_size": shape.ffn,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "max_position_embeddings": shape.context,
            "tie_word_embeddings": True,
            # 0.02 is made for widths of thousands: at 128 attention starts flat and copying is learned late.
            "initializer_range": shape.width**-0.5,
            "attention_dropout": self.dropout,
            "pad_token_id": tokenizer.pad_id,
            "bos_token_id": None,
            "eos_token_id": None,
        }
        return LanguageModel(LlamaForCausalLM(LlamaConfig(**settings)))


def vocabularies() -> tuple[str, ...]:
    """Names of the tokenizer files in the package. A published file is never edited, only joined by another."""
    return tuple(sorted(path.stem for path in _VOCABULARIES.glob("*.json")))


@lru_cache(maxsize=8)
def _tokenizer(vocabulary: str) -> Tokenizer:
    from transformers import PreTrainedTokenizerFast

    inner = PreTrainedTokenizerFast(
        tokenizer_file=str(_VOCABULARIES / f"{vocabulary}.json"), pad_token="<|pad|>", eos_token="<|end|>"
    )
    return Tokenizer(inner)
