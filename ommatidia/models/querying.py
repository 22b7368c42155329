"""Learned queries that read a bank of visual tokens: the Querying Transformer of BLIP-2, as BRAVE uses it too.

Shapes: B batch, N queries, M tokens of the bank, D width of the queries, C width of the bank, Q question tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ommatidia.core.grid import Cost
from ommatidia.models.attention import Attention, attention_cost


class QueryingTransformer(nn.Module):
    """``layers`` blocks over ``queries`` learned vectors; each ``every``-th block, from the first, reads the bank.

    Blocks are BERT's (norm behind each sum), with a feed-forward network of four times the width (BLIP-2,
    arXiv 2301.12597, section 3.1). Words stand beside the queries in self-attention but do not read the bank.
    """

    def __init__(self, dim: int, bank: int, *, queries: int, layers: int, heads: int, every: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(queries, dim))
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(_Block(dim, bank if i % every == 0 else None, heads) for i in range(layers))

    def forward(self, bank_BMC: Tensor, *, sees_BM: Tensor | None = None, words_BQD: Tensor | None = None) -> Tensor:
        """Queries x_BND after the last block. ``sees_BM``: False where the bank must not be read."""
        count = len(self.queries)
        x_BND = self.queries.repeat(len(bank_BMC), 1, 1)
        if words_BQD is not None:
            x_BND = torch.cat([x_BND, words_BQD], 1)
        x_BND = self.norm(x_BND)
        for block in self.blocks:
            x_BND = block(x_BND, bank_BMC, sees_BM, count)
        return x_BND[:, :count]


def querying_cost(
    dim: int, bank: int, *, queries: int, layers: int, every: int, keys: int, words: int = 0
) -> Cost:  # fmt: skip
    """What ``QueryingTransformer`` holds and does with a bank of ``keys`` tokens."""
    tokens, reading = queries + words, -(-layers // every)
    own = attention_cost(dim, inner=dim, queries=tokens, keys=tokens)
    read = attention_cost(dim, bank, inner=dim, queries=queries, keys=keys)
    block = own.parameters + 8 * dim * dim + 5 * dim + 4 * dim
    parameters = queries * dim + 2 * dim + layers * block + reading * (read.parameters + 2 * dim)
    return Cost(parameters, layers * (own.flops + 16.0 * tokens * dim * dim) + reading * read.flops)


class _Block(nn.Module):
    def __init__(self, dim: int, bank: int | None, heads: int) -> None:
        super().__init__()
        head_dim = dim // heads
        self.attention, self.norm = Attention(dim, heads=heads, head_dim=head_dim), nn.LayerNorm(dim)
        self.reads = bank is not None
        if bank is not None:
            self.reading, self.reading_norm = Attention(dim, bank, heads=heads, head_dim=head_dim), nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.feed_norm = nn.LayerNorm(dim)

    def forward(self, x_BND: Tensor, bank_BMC: Tensor, sees_BM: Tensor | None, queries: int) -> Tensor:
        x_BND = self.norm(x_BND + self.attention(x_BND))
        if self.reads:
            asking, words = x_BND[:, :queries], x_BND[:, queries:]
            asking = self.reading_norm(asking + self.reading(asking, bank_BMC, sees_BM=sees_BM))
            x_BND = torch.cat([asking, words], 1)
        return self.feed_norm(x_BND + self.feed(x_BND))
