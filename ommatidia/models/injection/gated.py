"""Gated cross-attention layers before the blocks of a decoder: Flamingo (2204.14198, section 2.2) and its kin.

    x <- x + tanh(a) * attention(norm(x), views)        a, b: one number each, 0 at the start, so that the language
    x <- x + tanh(b) * ffn(norm(x))                     model is what it was until the first step has been taken

Queries are the positions of the text, keys and values the projected views of their own row. A position that sees no
view passes as it is, both branches left out, so that text before and without images is the language model's own.

Shapes: B batch, T tokens, E language width, K views that are looked at, L keys a view, M views a row at most, I width
of all heads together.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Cost
from ommatidia.core.types import NO_TOKEN
from ommatidia.models.between import before
from ommatidia.models.injection.injection import Attends, Injection, InjectionConfig, InjectionContext, VisualContext

if TYPE_CHECKING:
    from ommatidia.models.language.language import LanguageModel, LanguageShape

Positive = Annotated[int, Field(gt=0)]


def _squared_relu(x: Tensor) -> Tensor:
    return functional.relu(x).square()


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "squared_relu": _squared_relu,
    "silu": functional.silu,
}


class GatedConfig(InjectionConfig):
    """What designs with gated cross-attention layers have in common.

    A layer stands before the blocks ``first``, ``first + every``, ... counted from 0.
    """

    every: Positive = 4
    first: Annotated[int, Field(ge=0)] = 0
    layers: Positive | None = None
    """How many; None: as many as the decoder has room for."""
    heads: Positive | None = None
    """None: as many as the language model has."""
    head_dim: Positive | None = None
    """None: the language model's."""
    ffn_ratio: Annotated[float, Field(gt=0)] = 4.0
    """Width of the feed-forward network, relative to the language model's."""
    activation: Literal["gelu", "squared_relu", "silu"] = "gelu"
    bias: bool = False
    """Whether the matrices have biases; the norms always do."""
    pictures: Literal["last", "all"]
    """Which images before a position it looks at."""

    @property
    def attends(self) -> Attends:
        return self.pictures

    def check(self, context: InjectionContext) -> None:
        self.placed(context.language)

    def placed(self, language: LanguageShape) -> tuple[int, ...]:
        """Numbers of the blocks that have a layer before them. Raises ConfigError when the decoder has too few."""
        room = range(self.first, language.layers, self.every)
        count = self.layers or len(room)
        if not room or count > len(room):
            needed = self.first + self.every * (max(count, 1) - 1) + 1
            raise ConfigError(
                f"injection: {max(count, 1)} layers, one every {self.every} blocks from block {self.first} on, "
                f"need a decoder of {needed} blocks; this one has {language.layers}"
            )
        return tuple(room[:count])

    def _widths(self, language: LanguageShape) -> tuple[int, int, int]:
        """Heads, width of a head, width of the feed-forward network."""
        return (
            self.heads or language.heads,
            self.head_dim or language.head_dim,
            round(self.ffn_ratio * language.width),
        )

    def module_layers(self, language: LanguageShape) -> dict[int, GatedLayer]:
        """Fresh layers by the number of the block they stand before."""
        heads, head_dim, ffn = self._widths(language)
        activation = _ACTIVATIONS[self.activation]
        return {
            block: GatedLayer(language.width, heads, head_dim, ffn, activation, bias=self.bias)
            for block in self.placed(language)
        }

    def layers_cost(self, language: LanguageShape, *, tokens: int, keys: float) -> Cost:
        """All layers over ``tokens`` positions that look at ``keys`` visual tokens."""
        heads, head_dim, ffn = self._widths(language)
        width, inner, layers = language.width, heads * head_dim, len(self.placed(language))
        biases = inner + 2 * inner + width + ffn + width if self.bias else 0
        parameters = 4 * width * inner + 2 * width * ffn + 4 * width + 2 + biases
        if not keys:
            return Cost(layers * parameters)
        linear = 2.0 * tokens * (2 * width * inner + 2 * width * ffn) + 2.0 * keys * 2 * width * inner
        return Cost(layers * parameters, layers * (linear + 4.0 * tokens * keys * inner))


class Look:
    """The keys of a batch and who may look at which; made once a pass and shared by all layers."""

    def __init__(self, tokens_KLE: Tensor, valid_KL: Tensor, numbers_K: Tensor, seen: VisualContext) -> None:
        """``numbers_K``: the index of each view among all views of the batch, as ``visible_views_BT2`` counts them."""
        if seen.visible_views_BT2 is None:
            raise AlignmentError("the batch does not say which views each position sees; collate it for this model")
        self.tokens_KLE, self._sees_BT2 = tokens_KLE, seen.visible_views_BT2
        self._kept: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._now: tuple[int, Tensor, Tensor] | None = None
        rows_K = seen.views.rows_K[numbers_K]
        batch = len(seen.visible_views_BT2)
        counts_B = torch.bincount(rows_K, minlength=batch)
        nth_K = torch.arange(len(rows_K), device=rows_K.device) - (counts_B.cumsum(0) - counts_B)[rows_K]
        self.slots_BM = rows_K.new_zeros(batch, int(counts_B.max()))
        self.slots_BM[rows_K, nth_K] = torch.arange(len(rows_K), device=rows_K.device)
        self._numbers_BM = torch.full_like(self.slots_BM, -1)  # before every view: nobody sees a slot left empty
        self._numbers_BM[rows_K, nth_K] = numbers_K
        self._valid_BML = valid_KL[self.slots_BM]

    def at(self, x_BTE: Tensor) -> tuple[Tensor, Tensor]:
        """mask_B1TS (S keys of a row) and sighted_BT1, which is False where there is nothing to see; there the mask
        is open, so that the softmax has something to stand on, and the result is to be thrown away.

        The positions are all of the prompt, or with a cache the one behind it, or without one all until there: what
        is generated sees what the last position of the prompt sees. Raises AlignmentError for any other number.
        """
        rows, positions = x_BTE.shape[:2]
        known = self._sees_BT2.shape[1]
        if rows != len(self._sees_BT2) or 1 < positions < known:
            raise AlignmentError(
                f"{rows} rows of {positions} positions in the decoder, but it is known what "
                f"{len(self._sees_BT2)} rows of {known} positions see"
            )
        if self._now is None or self._now[0] != positions:
            last_B12 = self._sees_BT2[:, -1:]
            visible_views_BT2 = last_B12 if positions < known else self._sees_BT2
            visible_views_BT2 = torch.cat(
                [visible_views_BT2, last_B12.expand(-1, positions - visible_views_BT2.shape[1], -1)], 1
            )
            first_BT1, end_BT1 = visible_views_BT2.unsqueeze(-1).unbind(2)
            numbers_B1M = self._numbers_BM.unsqueeze(1)
            views_BTM = (first_BT1 <= numbers_B1M) & (numbers_B1M < end_BT1)
            sighted_BT1 = views_BTM.any(-1, keepdim=True)
            mask_BTS = (views_BTM.unsqueeze(-1) & self._valid_BML.unsqueeze(1)).flatten(2)
            self._now = positions, (mask_BTS | ~sighted_BT1).unsqueeze(1), sighted_BT1
        return self._now[1], self._now[2]

    def keys(self, layer: GatedLayer) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer; while generating they are computed once."""
        if layer in self._kept:
            return self._kept[layer]
        made = layer.keys(self.tokens_KLE, self.slots_BM)
        if not torch.is_grad_enabled():
            self._kept[layer] = made
        return made


class GatedLayer(nn.Module):
    """One cross-attention and one feed-forward network, each behind its gate."""

    def __init__(
        self, width: int, heads: int, head_dim: int, ffn: int, activation: Callable[[Tensor], Tensor], *, bias: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_dim
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=bias)
        self.key_value = nn.Linear(width, 2 * inner, bias=bias)
        self.out = nn.Linear(inner, width, bias=bias)
        self.gate = nn.Parameter(torch.zeros(1))
        self.ffn_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, ffn, bias=bias)
        self.activation = activation
        self.narrow = nn.Linear(ffn, width, bias=bias)
        self.ffn_gate = nn.Parameter(torch.zeros(1))

    def keys(self, tokens_KLE: Tensor, slots_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of every row; each view is projected once, and empty slots hold some view or other."""
        kv_KLI = self.key_value(tokens_KLE.to(self.key_value.weight.dtype))
        key, value = self._split(kv_KLI[slots_BM].flatten(1, 2)).chunk(2, dim=1)
        return key, value

    def _split(self, x_BTI: Tensor) -> Tensor:
        return x_BTI.unflatten(-1, (-1, self.query.out_features // self.heads)).transpose(1, 2)

    def forward(self, x_BTE: Tensor, look: Look) -> Tensor:
        mask_B1TS, sighted_BT1 = look.at(x_BTE)
        key, value = look.keys(self)
        dtype = self.norm.weight.dtype
        query = self._split(self.query(self.norm(x_BTE.to(dtype))))
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask_B1TS)
        x_BTE = _add(x_BTE, self.out(found.transpose(1, 2).flatten(2)), self.gate, sighted_BT1)
        thought_BTE = self.narrow(self.activation(self.widen(self.ffn_norm(x_BTE.to(dtype)))))
        return _add(x_BTE, thought_BTE, self.ffn_gate, sighted_BT1)


def _add(x_BTE: Tensor, branch_BTE: Tensor, gate: Tensor, sighted_BT1: Tensor) -> Tensor:
    return x_BTE + torch.where(sighted_BT1, torch.tanh(gate) * branch_BTE, 0.0).to(x_BTE.dtype)


class GatedInjection(Injection):
    """Holds the layers by the number of their block and puts them before it."""

    def __init__(self, layers: dict[int, GatedLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(block): layer for block, layer in layers.items()})

    @abstractmethod
    def looked_at(self, seen: VisualContext) -> Tensor:
        """Numbers of the views that are keys, in order."""

    def inside(self, language: LanguageModel, seen: VisualContext) -> contextlib.AbstractContextManager[None]:
        numbers_K = self.looked_at(seen)
        if len(numbers_K) == 0:
            return contextlib.nullcontext()
        tokens_KLE = seen.v_KHWE[numbers_K].flatten(1, 2)
        valid_KL = torch.ones(tokens_KLE.shape[:2], dtype=torch.bool, device=tokens_KLE.device)
        if seen.tags_KG is not None:
            tags_KG = seen.tags_KG[numbers_K]
            tokens_KLE = torch.cat([language.embed(tags_KG).to(tokens_KLE.dtype), tokens_KLE], 1)
            valid_KL = torch.cat([tags_KG != NO_TOKEN, valid_KL], 1)
        look = Look(tokens_KLE, valid_KL, numbers_K, seen)
        return before(language.blocks, {int(block): partial(layer, look=look) for block, layer in self.layers.items()})
