"""Hadamard matrices: orthogonal, every entry of one size. Sylvester's and Paley's constructions and their products."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ommatidia.core.errors import ConfigError


@lru_cache(maxsize=16)
def hadamard(size: int) -> Tensor:
    """A normalised Hadamard matrix H (H H^T = I) of this size, in float64.

    Raises ConfigError where doubling a Paley matrix reaches no such size.
    """
    doubled, core = 1, size
    while core:
        found = _paley(core)
        if found is not None:
            out = found
            for _ in range(doubled.bit_length() - 1):
                out = torch.cat([torch.cat([out, out], 1), torch.cat([out, -out], 1)])
            return out / size**0.5
        if core % 2:
            break
        core, doubled = core // 2, doubled * 2
    raise ConfigError(f"phi_s: no Hadamard matrix of size {size} is known here; use normalise: standardise")


def _paley(size: int) -> Tensor | None:
    """Entries 1 and -1: size 1, q + 1 with a prime q = 3 mod 4, or 2 (q + 1) with a prime q = 1 mod 4."""
    if size == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if size % 4 == 0 and _prime(size - 1):
        q = size - 1
        bordered = torch.zeros(size, size, dtype=torch.float64)
        bordered[0, 1:], bordered[1:, 0], bordered[1:, 1:] = 1, -1, _jacobsthal(q)
        return bordered + torch.eye(size, dtype=torch.float64)
    q = size // 2 - 1
    if size % 4 == 0 and q % 4 == 1 and _prime(q):
        bordered = torch.zeros(q + 1, q + 1, dtype=torch.float64)
        bordered[0, 1:], bordered[1:, 0], bordered[1:, 1:] = 1, 1, _jacobsthal(q)
        one = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        zero = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
        return torch.kron(bordered, one) + torch.kron(torch.eye(q + 1, dtype=torch.float64), zero)
    return None


def _jacobsthal(q: int) -> Tensor:
    """Q[a, b] is 1 where a - b is a square modulo q, -1 where it is none, 0 on the diagonal."""
    squares = {a * a % q for a in range(1, q)}
    character = torch.tensor([0.0] + [1.0 if a in squares else -1.0 for a in range(1, q)], dtype=torch.float64)
    numbers = torch.arange(q)
    return character[(numbers[:, None] - numbers[None, :]) % q]


def _prime(number: int) -> bool:
    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))
