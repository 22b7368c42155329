"""What a node is expected to need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """What a job is expected to need, from arithmetic alone."""

    flops: float = 0.0
    bytes: int = 0
    """Kept on disk afterwards."""
    tokens: int = 0
    """Positions the language model will process."""
    parameters: int = 0
    samples: int = 0

    def __add__(self, other: Price) -> Price:
        return Price(
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.tokens + other.tokens,
            max(self.parameters, other.parameters),
            self.samples + other.samples,
        )
