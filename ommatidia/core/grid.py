"""Grid: the shape of everything visual, known before any weight exists. Blocks: where a trunk may be steered.
Cost: what a part or a step needs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Grid:
    """A map of ``height`` x ``width`` feature vectors of ``dim`` channels, row-major."""

    height: int
    width: int
    dim: int

    @property
    def tokens(self) -> int:
        """Number of visual tokens when the grid is flattened into a language model."""
        return self.height * self.width

    @property
    def values(self) -> int:
        return self.tokens * self.dim

    def resized(self, height: int, width: int) -> Grid:
        return replace(self, height=height, width=width)

    def with_dim(self, dim: int) -> Grid:
        return replace(self, dim=dim)

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.dim}"


@dataclass(frozen=True, slots=True)
class Blocks:
    """The ``count`` equal blocks of a trunk between which its features may be changed, and the grid they pass on."""

    count: int
    grid: Grid


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters held, and floating-point operations of one forward pass (1 multiply-add = 2 FLOP)."""

    parameters: int = 0
    flops: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.flops + other.flops)

    def times(self, n: float) -> Cost:
        """The cost of running the same part ``n`` times: operations grow, parameters do not."""
        return Cost(self.parameters, self.flops * n)


def content(rows: int, columns: int, height: int, width: int, *, at_least: int = 0) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) in cells of what a centred image covers of a map of rows x columns.

    Rounded as LLaVA-NeXT and Cambrian-1 do: the image's side down to whole cells, but not below ``at_least``, then
    half of what is left off either end.
    """
    if width / height > columns / rows:
        border = (rows - max(at_least, int(height * (columns / width)))) // 2
        return border, 0, rows - border, columns
    border = (columns - max(at_least, int(width * (rows / height)))) // 2
    return 0, border, rows, columns - border
