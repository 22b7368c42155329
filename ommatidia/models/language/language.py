"""The contract of a language model: its shape before weights, its cost, and a thin module over a transformers decoder.

Shapes: B batch, T tokens, E width, V vocabulary, S selected positions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ommatidia.core.config import Config, digest
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError
from ommatidia.core.files import looked
from ommatidia.core.grid import Cost
from ommatidia.models.language import apart, packed
from ommatidia.models.language.known import LANGUAGES
from ommatidia.models.linear_cross_entropy import cross_entropy_sum, linear_cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ommatidia.models.language.tokenizer import Tokenizer

_HEAD_SCALINGS = ("logit_scale", "logits_scaling", "final_logit_softcapping")


@dataclass(frozen=True, slots=True)
class LanguageShape:
    """The numbers that fix a decoder's size: enough to count parameters and operations without building it."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    gated: bool = True
    tied: bool = False
    extra: int = 0
    """Parameters beside those that ``parameters`` knows by itself: biases, position tables, other norms."""

    @property
    def linear_per_layer(self) -> int:
        """Weights of one block's matrices: query and output, key and value, and the feed-forward network."""
        attention = 2 * self.width * self.heads * self.head_dim + 2 * self.width * self.kv_heads * self.head_dim
        return attention + (3 if self.gated else 2) * self.width * self.ffn

    @property
    def parameters(self) -> int:
        """Matrices, the two norms of a block, the final norm, the embeddings (once when tied), and ``extra``."""
        blocks = self.layers * (self.linear_per_layer + 2 * self.width)
        return blocks + self.width + (1 if self.tied else 2) * self.vocab * self.width + self.extra

    def cost(self, *, tokens: int, head_tokens: int) -> Cost:
        """One causal forward pass over ``tokens`` positions with logits at ``head_tokens`` of them."""
        linear = 2.0 * tokens * self.layers * self.linear_per_layer
        attention = 2.0 * tokens * tokens * self.heads * self.head_dim * self.layers  # half of the square: causal
        head = 2.0 * head_tokens * self.width * self.vocab
        return Cost(self.parameters, linear + attention + head)


class LanguageConfig(Config, family=True):
    """Names a causal language model. A bare name is one of ``known.LANGUAGES``, or else a kind."""

    @classmethod
    def named(cls, name: str) -> Mapping[str, Any]:
        return LANGUAGES.get(name, {"kind": name})

    @abstractmethod
    def shape(self) -> LanguageShape:
        """Known without weights."""

    @abstractmethod
    def tokenizer(self) -> Tokenizer: ...

    def has_tokenizer(self) -> bool:
        """Whether the tokenizer can be read without a download."""
        return True

    def check(self) -> None:
        """Raises ConfigError where it is known, without reading a tensor, that the weights cannot be read."""

    def family(self) -> str | None:
        """The model type of the decoder; None where it cannot be told without a download."""
        return None

    @abstractmethod
    def build(self, *, pretrained: bool = True) -> LanguageModel:
        """The module. Without ``pretrained`` the weights are arbitrary: somebody is about to load them."""

    def weights_digest(self) -> str:
        """Identity of the starting weights and the tokenizer: this value, and whatever files it reads, by content."""
        return digest([self.hashed_without_places(), self.contents().digest])

    def contents(self) -> Contents:
        """The local files it reads, by content; looked at once inside ``files.settled``. Raises ConfigError."""
        return looked(["language", self.to_json()], self.reads)

    def reads(self) -> Contents:
        """``contents``, looked at now."""
        return Contents()


class LanguageModel(nn.Module):
    """A decoder of transformers seen as three steps: embed, run the blocks, read logits where they are wanted."""

    decoder: Any
    chunk: int | None
    """Positions whose logits exist at a time in ``loss``; None: all of them."""

    def __init__(self, decoder: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = decoder
        self.chunk = None

    @property
    def width(self) -> int:
        return int(self.decoder.get_input_embeddings().weight.shape[1])

    @property
    def in_rows(self) -> bool:
        """Whether a pack runs as one row; sample by sample otherwise, since the decoder would mix them."""
        return apart.family_of(self.decoder.config) in apart.ROWS

    @property
    def _inner(self) -> Any:
        """The decoder without its head. Some families (Llama 4) do not say by ``base_model`` which module that is."""
        inner = self.decoder.base_model
        return self.decoder.model if inner is self.decoder else inner

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks in order, found by their number: layers of an injection hook in before or behind them.

        Raises ConfigError for a decoder that keeps them otherwise.
        """
        count = self.decoder.config.get_text_config().num_hidden_layers
        for module in self.decoder.base_model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
        raise ConfigError(f"language: {type(self.decoder).__name__} keeps its {count} blocks in no list")

    def embed(self, ids_BT: Tensor) -> Tensor:
        """Token embeddings x_BTE; negative ids (visual placeholders) get the embedding of id 0, to be overwritten."""
        return self.decoder.get_input_embeddings()(ids_BT.clamp(min=0))

    def forward(self, x_BTE: Tensor, mask_BT: Tensor, lengths: tuple[int, ...] | None = None) -> Tensor:
        """Hidden states after the last block and norm, h_BTE. Padding may stand on either side.

        ``lengths``: the row is a pack of samples of so many tokens, each of which sees only itself.
        """
        mask: Tensor | None = None
        if lengths is not None and not self.in_rows:
            pieces = zip(x_BTE.split(lengths, 1), mask_BT.split(lengths, 1), strict=True)
            return torch.cat([self(x_1TE, mask_1T) for x_1TE, mask_1T in pieces], 1)
        if lengths is not None:
            positions_BT = packed.places(lengths, x_BTE.device)
            mask = packed.boundaries(lengths, x_BTE.device) if packed.prepare(self.decoder) else None
        elif _real_tokens_first(mask_BT):  # none of them looks at padding: the plain causal kernel is right, and faster
            positions_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device).expand_as(mask_BT)
        else:
            positions_BT, mask = (mask_BT.long().cumsum(-1) - 1).clamp(min=0), mask_BT.long()
        return self._inner(
            inputs_embeds=x_BTE, attention_mask=mask, position_ids=positions_BT, use_cache=False
        ).last_hidden_state

    def head(self, h_SE: Tensor) -> Tensor:
        """Logits for any selection of hidden states, with the scalings some families apply after the output matrix."""
        config = self.decoder.config
        logits = self.decoder.get_output_embeddings()(h_SE)
        if scale := getattr(config, "logit_scale", None):  # Cohere
            logits = logits * scale
        if divisor := getattr(config, "logits_scaling", None):  # Granite
            logits = logits / divisor
        if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2
            logits = torch.tanh(logits / cap) * cap
        return logits

    def loss(self, h_SE: Tensor, targets_S: Tensor) -> Tensor:
        """Sum of the cross-entropies of the next tokens, in float32; logits are made ``chunk`` positions at a time."""
        chunk = self.chunk
        if chunk is None or not len(h_SE):
            return cross_entropy_sum(self.head(h_SE), targets_S)
        matrix = self._plain_head()
        if matrix is not None:
            return linear_cross_entropy(h_SE, matrix, targets_S, chunk=chunk)

        def of(h_CE: Tensor, targets_C: Tensor) -> Tensor:
            return cross_entropy_sum(self.head(h_CE), targets_C)

        pieces = zip(h_SE.split(chunk), targets_S.split(chunk), strict=True)
        return torch.stack([checkpoint(of, *piece, use_reentrant=False) for piece in pieces]).sum()

    def _plain_head(self) -> Tensor | None:
        """The output matrix where logits are a product with it and nothing else; None for any other head."""
        head, config = self.decoder.get_output_embeddings(), self.decoder.config
        scaled = any(getattr(config, name, None) for name in _HEAD_SCALINGS)
        weight = getattr(head, "weight", None)
        plain = type(head) is nn.Linear and head.bias is None and type(weight) in (nn.Parameter, Tensor)
        hooked = bool(head._forward_hooks or head._forward_pre_hooks)  # a sharded head gathers itself in one
        return weight if plain and not scaled and not hooked else None

    def save_config(self, folder: Path) -> None:
        """Write the transformers config, so that the architecture can be rebuilt without its origin."""
        self.decoder.config.save_pretrained(folder)


def _real_tokens_first(mask_BT: Tensor) -> bool:
    """Whether all that is masked stands behind all that is not, in every row."""
    return not bool((mask_BT[:, 1:] & ~mask_BT[:, :-1]).any()) and bool(mask_BT[:, 0].all())
